/** Screen F: lessons to come and past ones, where their money is, and what may be done with them. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import {
  type Act,
  type BookingData,
  isRefusal,
  type ListQuery,
  type Refusal,
  type SignedAct,
  type TypedData,
} from "./blockchainService";
import { Busy, RefusalNotice, Title, useAnnonce, usePage, useWork, walletSentence, When } from "./page";

type Side = "student" | "tutor";

export function MyBookings() {
  const { t, account } = usePage();
  const [since] = useState(() => new Date().toISOString());
  return (
    <section class="mine">
      <Title>{t.myBookings}</Title>
      {account && (
        <>
          <List key="upcoming" title={t.upcoming} none={t.noneUpcoming} query={{ from: since, order: "asc" }} />
          <List key="past" title={t.past} none={t.nonePast} query={{ to: since, order: "desc" }} />
        </>
      )}
    </section>
  );
}

function List({ title, none, query }: { title: string; none: string; query: ListQuery }) {
  const { t, service, account } = usePage();
  const [bookings, setBookings] = useState<BookingData[] | null>(null);
  const [cursor, setCursor] = useState<string | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [asked, setAsked] = useState(0);
  const side: Side = account!.role === "tutor" ? "tutor" : "student";

  const read = async (after: string | undefined, signal?: AbortSignal) => {
    const list = side === "tutor" ? service.getBookingsOfTutor : service.getBookingsOfUser;
    const page = await list.call(service, account!.id, { ...query, limit: 20, cursor: after }, { signal });
    setRefusal(isRefusal(page) ? page : null);
    if (isRefusal(page)) return;
    setBookings((known) => (after ? [...(known ?? []), ...page.data] : page.data));
    setCursor(page.nextCursor);
  };
  useWork((signal) => read(undefined, signal), [service, account!.id, asked]);
  // An act's answer is newer than the lists may be.
  const changed = (newer: BookingData[]) =>
    setBookings((known) => known && known.map((one) => newer.find(({ id }) => id === one.id) ?? one));

  return (
    <section>
      <h2>{title}</h2>
      {refusal && <RefusalNotice refusal={refusal} retry={() => setAsked(asked + 1)} />}
      {!bookings && !refusal && <Busy text={t.loading} />}
      {bookings?.length === 0 && <p class="muted">{none}</p>}
      {bookings && bookings.length > 0 && (
        <ul class="lessons">
          {bookings.map((booking) => (
            <Lesson key={booking.id} booking={booking} side={side} changed={changed} />
          ))}
        </ul>
      )}
      {cursor && (
        <button type="button" class="button" onClick={() => void read(cursor)}>
          {t.more}
        </button>
      )}
    </section>
  );
}

function Lesson({ booking, side, changed }: { booking: BookingData; side: Side; changed: (newer: BookingData[]) => void }) {
  const { t, edu, clock, day } = usePage();
  const [act, setAct] = useState<Act | null>(null);
  const annonce = useAnnonce(booking.annonceId);
  const start = Date.parse(booking.startsAt);
  const name = `${day(start)}, ${clock(start)}`;
  return (
    <li>
      <div>
        <When start={start} minutes={booking.duration} other={annonce?.timeZone} />
        {annonce && <span class="other">{annonce.title}</span>}
        <span class="other">{whereTheMoneyIs(booking)}</span>
        {booking.studentNotes && <q class="other">{booking.studentNotes}</q>}
      </div>
      <span class={`badge ${booking.status}`}>{t.statuses[booking.status]}</span>
      <span class="price">{edu(booking.amountWei)}</span>
      <div class="acts">
        {actsOf(booking, side, Date.now()).map((one) => (
          <button
            type="button"
            class="button small"
            key={one}
            aria-label={t.actOn(t.acts[one], name)}
            onClick={() => setAct(one)}
          >
            {t.acts[one]}
          </button>
        ))}
      </div>
      {act && <Ask act={act} booking={booking} close={() => setAct(null)} changed={changed} />}
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

/** Says who gets how much, and then does it. */
function Ask(props: { act: Act; booking: BookingData; close: () => void; changed: (newer: BookingData[]) => void }) {
  const { act, booking, close, changed } = props;
  const page = usePage();
  const { t, service, account, about, edu, clock, day, refreshAccount } = page;
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const start = Date.parse(booking.startsAt);
  // Before the next paint: a key pressed at once must find it open.
  useLayoutEffect(() => dialog.current?.showModal(), []);

  const doIt = async () => {
    setBusy(true);
    setRefusal(null);
    const signature = await signed();
    const answer = isRefusal(signature) ? signature : await service.act(act, booking.id, signature.act);
    setBusy(false);
    if (isRefusal(answer)) return setRefusal(answer);
    dialog.current?.close();
    refreshAccount();
    changed(answer.data.bookings);
  };

  /** A wallet's signature, where the account is one. */
  const signed = async (): Promise<{ act: SignedAct | undefined } | Refusal> => {
    if (account!.custodial) return { act: undefined };
    const prepared = await service.prepareAct(act, booking.id);
    if (isRefusal(prepared)) return prepared;
    const kit = await import("./wallet");
    try {
      const data = prepared.data.typedData as unknown as TypedData;
      const signature = await kit.signAct(data, account!.wallet, about, act);
      return { act: { signature, deadline: Number(data.message.deadline) } };
    } catch (error) {
      if (!(error instanceof kit.WalletProblem)) throw error;
      const { code } = error;
      const message = walletSentence(page, code, error.message);
      return { success: false, status: 409, code, message };
    }
  };

  return (
    <dialog ref={dialog} aria-labelledby="ask-title" onClose={close} onCancel={(event) => busy && event.preventDefault()}>
      <h3 id="ask-title">{t.acts[act]}</h3>
      <p>
        <When start={start} minutes={booking.duration} />
      </p>
      <p class="lead">{t.consequences[act](edu(booking.amountWei))}</p>
      {refusal && <RefusalNotice refusal={refusal} />}
      {busy && <Busy text={t.acting} />}
      <div class="actions end">
        <button type="button" class="button" disabled={busy} onClick={() => dialog.current?.close()}>
          {t.keep}
        </button>
        <button
          type="button"
          class={`button ${act === "confirm" || act === "complete" ? "primary" : "danger"}`}
          disabled={busy}
          aria-label={`${t.doIt[act]}: ${day(start)}, ${clock(start)}`}
          onClick={() => void doIt()}
        >
          {t.doIt[act]}
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
  return (["confirm", "complete", "cancel", "dispute"] as const).filter(
    (act) => open.some((one) => one.act === act) && (act !== "complete" || begun),
  );
}
