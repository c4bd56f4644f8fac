/** Screen F: lessons to come and past ones, where their money is, and what may be done with them. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import {
  type Act,
  type BookingData,
  type BookingStatus,
  isRefusal,
  type ListQuery,
  placeOf,
  type Refusal,
  type SignedAct,
  type TypedData,
} from "./blockchainService";
import { Busy, RefusalNotice, Title, useAnnonce, usePage, useWork, walletSentence, When } from "./page";

type Side = "student" | "tutor";
type Changed = (act: Act, newer: BookingData[]) => void;

const ACTS = ["confirm", "complete", "cancel", "dispute"] as const;
const ANSWERED: BookingStatus[] = ["CONFIRMED", "DISPUTED", "COMPLETED", "CANCELLED"];
/** On a page of a list: every lesson of one batch has room. */
const LIMIT = 40;

export function MyBookings() {
  const { t, account } = usePage();
  const side: Side = account?.role === "tutor" ? "tutor" : "student";
  const [since] = useState(() => new Date().toISOString());
  const [answered, setAnswered] = useState(0);
  const coming: ListQuery = { from: since, order: "asc" };
  return (
    <section class="mine">
      <Title>{t.myBookings}</Title>
      {account && side === "tutor" && (
        <>
          <Escrow key={answered} id={account.id} />
          <List
            key="requests"
            title={t.requests}
            none={t.noneRequested}
            query={{ ...coming, status: ["PENDING"] }}
            side={side}
            onChange={() => setAnswered(answered + 1)}
          />
        </>
      )}
      {account && (
        <>
          <List
            key={`upcoming ${answered}`}
            title={t.upcoming}
            none={t.noneUpcoming}
            query={side === "tutor" ? { ...coming, status: ANSWERED } : coming}
            side={side}
          />
          <List key="past" title={t.past} none={t.nonePast} query={{ to: since, order: "desc" }} side={side} />
        </>
      )}
    </section>
  );
}

/** What the contract holds for a tutor's lessons. */
function Escrow({ id }: { id: string }) {
  const { t, service, edu } = usePage();
  const [held, setHeld] = useState<string | null>(null);
  useWork(
    async (signal) => {
      const stats = await service.getStats(id, { signal });
      if (!isRefusal(stats)) setHeld(stats.data.inEscrowWei);
    },
    [service, id],
  );
  return held && <p class="lead">{t.inEscrow(edu(held))}</p>;
}

function List(props: { title: string; none: string; query: ListQuery; side: Side; onChange?: () => void }) {
  const { title, none, query, side, onChange } = props;
  const { t, service, account } = usePage();
  const heading = useRef<HTMLHeadingElement>(null);
  const [bookings, setBookings] = useState<BookingData[] | null>(null);
  const [cursor, setCursor] = useState<string | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [asked, setAsked] = useState(0);
  const [said, setSaid] = useState("");

  const read = async (after: string | undefined, signal?: AbortSignal) => {
    const list = side === "tutor" ? service.getBookingsOfTutor : service.getBookingsOfUser;
    const page = await list.call(service, account!.id, { ...query, limit: LIMIT, cursor: after }, { signal });
    setRefusal(isRefusal(page) ? page : null);
    if (isRefusal(page)) return;
    setBookings((known) => (after ? [...(known ?? []), ...page.data] : page.data));
    setCursor(page.nextCursor);
  };
  useWork((signal) => read(undefined, signal), [service, account!.id, asked]);
  // An act's answer is newer than the lists may be. What this list is not about any more leaves it.
  const changed: Changed = (act, newer) => {
    const stays = ({ status }: BookingData) => !query.status || query.status.includes(status);
    setBookings(
      (known) => known && known.map((one) => newer.find(({ id }) => id === one.id) ?? one).filter(stays),
    );
    setSaid(t.acted(t.acts[act], newer.length));
    heading.current?.focus();
    onChange?.();
  };

  return (
    <section>
      <h2 ref={heading} tabIndex={-1}>
        {title}
      </h2>
      <p class="hidden" role="status">
        {said}
      </p>
      {refusal && <RefusalNotice refusal={refusal} retry={() => setAsked(asked + 1)} />}
      {!bookings && !refusal && <Busy text={t.loading} />}
      {bookings?.length === 0 && <p class="muted">{none}</p>}
      {bookings && batches(bookings).map((batch) => (
        <Batch key={placeOf(batch[0]!).batchId} bookings={batch} side={side} changed={changed} />
      ))}
      {cursor && (
        <button type="button" class="button" onClick={() => void read(cursor)}>
          {t.more}
        </button>
      )}
    </section>
  );
}

/** The lessons of each batch together, in the order of the list. */
function batches(bookings: BookingData[]): BookingData[][] {
  const found = new Map<string, BookingData[]>();
  for (const booking of bookings) {
    const { batchId } = placeOf(booking);
    found.set(batchId, [...(found.get(batchId) ?? []), booking]);
  }
  return [...found.values()];
}

/** The lessons that were booked together, and what may be done with all or some of them at once. */
function Batch({ bookings, side, changed }: { bookings: BookingData[]; side: Side; changed: Changed }) {
  const { t, edu } = usePage();
  const [chosen, setChosen] = useState<string[]>([]);
  const [asking, setAsking] = useState<{ act: Act; bookings: BookingData[] } | null>(null);
  const now = Date.now();
  const some = bookings.filter(({ id }) => chosen.includes(id));
  const together = ACTS.map((act) => ({
    act,
    those: (some.length ? some : bookings).filter((booking) => actsOf(booking, side, now).includes(act)),
  })).filter(({ those }) => those.length > (some.length ? 0 : 1));
  const can = bookings.length > 1 && bookings.some((booking) => actsOf(booking, side, now).length > 0);
  const toggle = (id: string) =>
    setChosen(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]);
  const ask = (act: Act, those: BookingData[]) => setAsking({ act, bookings: those });
  return (
    <div class="batch">
      {bookings.length > 1 && (
        <div class="together">
          <span>{t.summary(bookings.length, edu(sumOf(bookings)))}</span>
          <div class="acts">
            {together.map(({ act, those }) => (
              <button type="button" class="button small" key={act} onClick={() => ask(act, those)}>
                {t.doIt[act](those.length)}
              </button>
            ))}
          </div>
        </div>
      )}
      <ul class="lessons">
        {bookings.map((booking) => (
          <Lesson
            key={booking.id}
            booking={booking}
            side={side}
            chosen={can ? chosen.includes(booking.id) : null}
            toggle={() => toggle(booking.id)}
            ask={(act) => ask(act, [booking])}
          />
        ))}
      </ul>
      {asking && (
        <Ask
          {...asking}
          close={() => setAsking(null)}
          changed={(act, newer) => {
            setChosen([]);
            changed(act, newer);
          }}
        />
      )}
    </div>
  );
}

function sumOf(bookings: BookingData[]): bigint {
  return bookings.reduce((sum, { amountWei }) => sum + BigInt(amountWei), 0n);
}

function Lesson(props: {
  booking: BookingData;
  side: Side;
  /** Null where there is nothing to choose. */
  chosen: boolean | null;
  toggle: () => void;
  ask: (act: Act) => void;
}) {
  const { booking, side, chosen, toggle, ask } = props;
  const { t, edu, clock, day } = usePage();
  const annonce = useAnnonce(booking.annonceId);
  const start = Date.parse(booking.startsAt);
  const name = `${day(start)}, ${clock(start)}`;
  const waits = side === "tutor" && booking.status === "PENDING";
  return (
    <li class={chosen === null ? undefined : "choosable"}>
      <div>
        {chosen !== null && (
          <input type="checkbox" class="choose" aria-label={t.choose(name)} checked={chosen} onChange={toggle} />
        )}
        <When start={start} minutes={booking.duration} other={annonce?.timeZone} />
        {annonce && <span class="other">{annonce.title}</span>}
        <span class="other">{whereTheMoneyIs(booking)}</span>
        {booking.studentNotes && <q class="other">{booking.studentNotes}</q>}
      </div>
      <span class={`badge ${booking.status}`}>{waits ? t.waitsForYou : t.statuses[booking.status]}</span>
      <span class="price">{edu(booking.amountWei)}</span>
      <div class="acts">
        {actsOf(booking, side, Date.now()).map((one) => (
          <button
            type="button"
            class="button small"
            key={one}
            aria-label={t.actOn(t.acts[one], name)}
            onClick={() => ask(one)}
          >
            {t.acts[one]}
          </button>
        ))}
      </div>
    </li>
  );

  function whereTheMoneyIs({ status, amountWei, payments }: BookingData): string {
    const got = (to: Side) => payments.find((payment) => payment.to === to)?.amountWei;
    const [tutor, student] = [got("tutor"), got("student")];
    if (tutor && student) return t.split(edu(tutor), edu(student));
    if (tutor) return t.paid(edu(tutor));
    if (student) return t.refunded(edu(student));
    const amount = edu(amountWei);
    if (status === "DISPUTED") return t.heldDisputed(amount);
    return status === "CONFIRMED" ? t.heldConfirmed(amount) : t.heldPending(amount);
  }
}

/** Says who gets how much, and then does it: with one lesson, or with several of a batch in one transaction. */
function Ask(props: { act: Act; bookings: BookingData[]; close: () => void; changed: Changed }) {
  const { act, bookings, close, changed } = props;
  const page = usePage();
  const { t, service, account, about, edu, clock, day, refreshAccount } = page;
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [waits, setWaits] = useState(false);
  const givingUp = useRef<AbortController | null>(null);
  const first = bookings[0]!;
  const { batchId } = placeOf(first);
  const ids = bookings.map(({ id }) => id);
  const one = bookings.length === 1;
  // Before the next paint: a key pressed at once must find it open.
  useLayoutEffect(() => dialog.current?.showModal(), []);

  const doIt = async () => {
    setBusy(true);
    setRefusal(null);
    const signature = await signed();
    const answer = isRefusal(signature)
      ? signature
      : one
        ? await service.act(act, first.id, signature.act)
        : await service.actOnBatch(act, batchId, ids, signature.act);
    setBusy(false);
    if (isRefusal(answer)) return setRefusal(answer);
    dialog.current?.close();
    refreshAccount();
    changed(act, answer.data.bookings.filter(({ id }) => ids.includes(id)));
  };

  /** A wallet's signature, where the account is one. */
  const signed = async (): Promise<{ act: SignedAct | undefined } | Refusal> => {
    if (account!.custodial) return { act: undefined };
    const prepared = await (one
      ? service.prepareAct(act, first.id)
      : service.prepareActOnBatch(act, batchId, ids));
    if (isRefusal(prepared)) return prepared;
    const kit = await import("./wallet");
    givingUp.current = new AbortController();
    setWaits(true);
    const given = givingUp.current.signal;
    try {
      const data = prepared.data.typedData as unknown as TypedData;
      const places = bookings.map((booking) => placeOf(booking).place);
      const signature = await kit.signAct(data, account!.wallet, { ...about, act, batchId, places }, given);
      return { act: { signature, deadline: Number(data.message.deadline) } };
    } catch (error) {
      if (!(error instanceof kit.WalletProblem)) throw error;
      const { code } = error;
      const message = walletSentence(page, code, error.message);
      return { success: false, status: 409, code, message };
    } finally {
      setWaits(false);
    }
  };

  const what = t.doIt[act](bookings.length);
  const start = Date.parse(first.startsAt);
  return (
    <dialog ref={dialog} aria-labelledby="ask-title" onClose={close} onCancel={(event) => busy && event.preventDefault()}>
      <h3 id="ask-title">{t.acts[act]}</h3>
      <ul class="asked" tabIndex={bookings.length > 1 ? 0 : undefined}>
        {bookings.map((booking) => (
          <li key={booking.id}>
            <When start={Date.parse(booking.startsAt)} minutes={booking.duration} />
          </li>
        ))}
      </ul>
      <p class="lead">{t.consequences[act](edu(sumOf(bookings)), bookings.length)}</p>
      {refusal && <RefusalNotice refusal={refusal} />}
      {busy && <Busy text={t.acting} />}
      <div class="actions end">
        <button
          type="button"
          class="button"
          disabled={busy && !waits}
          onClick={() => (waits ? givingUp.current?.abort() : dialog.current?.close())}
        >
          {waits ? t.giveUp : t.keep}
        </button>
        <button
          type="button"
          class={`button ${act === "confirm" || act === "complete" ? "primary" : "danger"}`}
          disabled={busy}
          aria-label={one ? `${what}: ${day(start)}, ${clock(start)}` : undefined}
          onClick={() => void doIt()}
        >
          {what}
        </button>
      </div>
    </dialog>
  );
}

/**
 * What somebody may do with a lesson now. Anyone's acts are the keeper's, and not offered; nor is a student
 * offered to pay for a lesson that has not begun.
 */
export function actsOf(booking: BookingData, side: Side, now: number): Act[] {
  const open = booking.may.filter(({ by, from, until }) => {
    return by === side && (!from || Date.parse(from) <= now) && (!until || now <= Date.parse(until));
  });
  const begun = Date.parse(booking.startsAt) <= now;
  return ACTS.filter(
    (act) => open.some((one) => one.act === act) && (act !== "complete" || begun),
  );
}
