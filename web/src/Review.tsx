/** Screens B and C: what will be booked, and the one click or signature that books it. */

import { useEffect, useRef, useState } from "preact/hooks";
import { type CreateBatchBookingData, isRefusal, type Refusal } from "./blockchainService";
import type { Listing, Selection } from "./BookingPage";
import { lessonWei, toDecimal } from "./money";
import { Busy, Notice, RefusalNotice, short, Title, usePage, walletSentence, When } from "./page";
import { remember, remembered } from "./session";
import { isTaken } from "./slots";
import { type Interval, localOf } from "./time";
import type { Wallet, WalletCode } from "./wallet";

/** What is on its way and has no answer yet. A reload finds it in the tab's storage, and sends the same again. */
interface Sending {
  data: CreateBatchBookingData;
  /** Of a wallet's batch, which is prepared. */
  signed?: { batchId: string; signatures: { signature: string; permitSignature?: string } };
}

type Step = "idle" | "sending" | "checking" | "preparing" | "permit" | "order" | "orderSecond";
/** Until when a silent wallet is not mentioned. */
const SILENT_MS = 60_000;
type Trouble =
  | { kind: "refusal"; refusal: Refusal }
  | { kind: "wallet"; code: WalletCode; message: string; wallet?: Wallet };

export function Review(props: {
  listing: Listing;
  taken: Interval[];
  selection: Selection;
  setSelection: (selection: Selection) => void;
  refresh: () => void;
  back: () => void;
}) {
  const { listing, taken, selection, setSelection, refresh, back } = props;
  const { about, account, service, refreshAccount, t, edu, clock, day, go } = usePage();
  const [step, setStep] = useState<Step>("idle");
  const [trouble, setTrouble] = useState<Trouble | null>(null);
  const [wallets, setWallets] = useState<Wallet[] | null>(null);
  const [silent, setSilent] = useState(false);
  const leaving = useRef(new AbortController());
  const givingUp = useRef(new AbortController());
  const { picks, notes, allowPartial } = selection;
  const { annonce, rateWei } = listing;

  const prices = picks.map(({ duration }) => lessonWei(rateWei, duration));
  const total = prices.reduce((sum, price) => sum + price, 0n);
  const lost = picks.filter((pick) => isTaken(pick, taken));
  const balance = account && BigInt(account.balanceWei);
  const busy = step !== "idle";

  const body: CreateBatchBookingData = {
    tutorId: annonce.tutorId,
    annonceId: annonce.id,
    bookings: picks.map(({ start, duration }, place) => ({
      ...localOf(start, listing.zone),
      startsAt: new Date(start).toISOString(),
      duration,
      amount: toDecimal(prices[place]!),
    })),
    ...(notes.trim() ? { studentNotes: notes.trim() } : {}),
    timeZone: listing.zone,
    allowPartial,
  };

  useEffect(() => {
    // What was under way goes on, if it is still what is shown here: with other lessons it was given up.
    const sending = remembered<Sending>("sending");
    if (sending && JSON.stringify(sending.data) === JSON.stringify(body)) run(() => send(sending));
    else refreshAccount();
    return () => leaving.current.abort();
  }, []);

  /** Runs a way to book; what stops it is shown. */
  const run = (work: () => Promise<void>, wallet?: Wallet) => {
    setTrouble(null);
    work()
      .catch(async (error: unknown) => {
        if (leaving.current.signal.aborted) return;
        const { WalletProblem } = await import("./wallet");
        if (!(error instanceof WalletProblem)) throw error;
        setTrouble({ kind: "wallet", code: error.code, message: error.message, wallet });
      })
      .finally(() => setStep("idle"));
  };

  const book = () => run(() => send({ data: body }));

  /** Sends until there is a clear answer, always the same: so it can't be booked twice. */
  const send = async (sending: Sending): Promise<void> => {
    setStep("sending");
    remember("sending", sending);
    const { data, signed } = sending;
    const { signal } = leaving.current;
    const call = { wait: false, retries: Infinity, onUnsure: () => setStep("checking"), signal };
    const answer = await (signed
      ? service.submitBatch(signed.batchId, signed.signatures, call)
      : service.createBatchBookings(data, call));
    remember("sending", null);
    if (!isRefusal(answer)) arrived(answer.data.batchId);
    else refused(answer);
  };

  const arrived = (batchId: string) => {
    remember(`selection.${annonce.id}`, null);
    go(`/bookings/batch/${batchId}`, { replace: true });
  };

  const refused = (refusal: Refusal) => {
    // A batch that was accepted and then came to nothing has its own page, which says why.
    if (refusal.code === "already_submitted" && refusal.batchId) return arrived(refusal.batchId);
    setTrouble({ kind: "refusal", refusal });
    refresh();
    refreshAccount();
  };

  /** Prepares, checks, and only then opens the wallet. */
  const sign = (chosen?: Wallet) =>
    run(async () => {
      const { signal } = leaving.current;
      setWallets(null);
      setStep("preparing");
      const [kit, prepared] = await Promise.all([import("./wallet"), service.prepareBatch(body, { signal })]);
      if (isRefusal(prepared)) return refused(prepared);
      if (prepared.data.failures) {
        return refused({ ...prepared, success: false, code: "taken", status: 409, failures: prepared.data.failures });
      }
      kit.assertShown(prepared.data, {
        chainId: about.chainId,
        escrow: about.escrow,
        token: about.token,
        student: account!.wallet,
        hourlyRateWei: rateWei,
        totalWei: total,
        minLessons: allowPartial ? 1 : picks.length,
        slots: picks,
      });
      const found = chosen ? [chosen] : await kit.discover();
      if (!found.length) throw new kit.WalletProblem("none");
      if (found.length > 1) return setWallets(found);
      const wallet = found[0]!;
      const { order, permit, batchId } = prepared.data;
      setStep(permit ? "permit" : "order");
      givingUp.current = new AbortController();
      const given = givingUp.current.signal;
      await kit.connect(wallet, account!.wallet, about.chainId, given);
      const signatures: { signature: string; permitSignature?: string } = { signature: "" };
      if (permit) {
        signatures.permitSignature = await kit.signTypedData(wallet, account!.wallet, permit, given);
        setStep("orderSecond");
      }
      signatures.signature = await kit.signTypedData(wallet, account!.wallet, order, given);
      await send({ data: body, signed: { batchId, signatures } });
    }, chosen);

  const waitsForWallet = step === "permit" || step === "order" || step === "orderSecond";
  useEffect(() => {
    if (!waitsForWallet) return;
    const timer = setTimeout(() => setSilent(true), SILENT_MS);
    return () => {
      clearTimeout(timer);
      setSilent(false);
    };
  }, [step]);

  const drop = (gone: typeof picks) => {
    setTrouble(null);
    const left = picks.filter((pick) => !gone.includes(pick));
    setSelection({ ...selection, picks: left });
    if (!left.length) back();
  };

  const again = () => (account?.custodial ? book() : sign());
  const steps: Record<Step, string> = {
    idle: "",
    sending: t.sending,
    checking: t.checking,
    preparing: t.preparing,
    permit: t.signPermit,
    order: t.signOrder,
    orderSecond: t.signOrderSecond,
  };

  return (
    <section class="review" aria-busy={busy}>
      <Title>{t.reviewTitle}</Title>
      <p class="muted">{annonce.title}</p>
      <ul class="lessons">
        {picks.map((pick, place) => (
          <li key={pick.start} class={lost.includes(pick) ? "lost" : ""}>
            <div>
              <When start={pick.start} minutes={pick.duration} other={listing.zone} />
              {lost.includes(pick) ? (
                <span class="why">{t.takenMeanwhile}</span>
              ) : (
                <FreeUntil start={pick.start} instant={annonce.instant} />
              )}
            </div>
            <span class="price">{edu(prices[place]!)}</span>
          </li>
        ))}
      </ul>
      <dl class="sums">
        <div class="total">
          <dt>{t.total}</dt>
          <dd>{edu(total)}</dd>
        </div>
        {balance !== null && (
          <>
            <div>
              <dt>{t.balance}</dt>
              <dd>{edu(balance)}</dd>
            </div>
            {balance >= total && (
              <div>
                <dt>{t.balanceAfter}</dt>
                <dd>{edu(balance - total)}</dd>
              </div>
            )}
          </>
        )}
      </dl>
      <div class="field">
        <label for="notes">{t.notes}</label>
        <textarea
          id="notes"
          rows={3}
          maxLength={2000}
          aria-describedby="notes-help"
          disabled={busy}
          value={notes}
          onInput={(event) => setSelection({ ...selection, notes: event.currentTarget.value })}
        />
        <p id="notes-help" class="muted">
          {t.notesHelp}
        </p>
      </div>
      {picks.length > 1 && (
        <label class="check">
          <input
            type="checkbox"
            checked={allowPartial}
            disabled={busy}
            onChange={(event) => setSelection({ ...selection, allowPartial: event.currentTarget.checked })}
          />
          {t.partial}
        </label>
      )}
      {trouble && !busy && (
        <TroubleNotice
          trouble={trouble}
          again={again}
          back={back}
          drop={(places) => drop(picks.filter((_, place) => places.includes(place + 1)))}
          showPrice={() => setTrouble(null)}
          switched={(wallet) => sign(wallet)}
          failed={({ code, message }, wallet) => setTrouble({ kind: "wallet", code, message, wallet })}
        />
      )}
      {!trouble && lost.length > 0 && !busy && (
        <Notice kind="warning" text={t.slotsTaken(lost.length)} more={t.nothingCharged}>
          <button type="button" class="button" onClick={() => drop(lost)}>
            {t.removeThem(lost.length)}
          </button>
        </Notice>
      )}
      {!trouble && balance !== null && balance < total && !busy && (
        <Notice text={t.tooFew(edu(total), edu(balance))} more={`${t.tooFewHelp} ${t.nothingCharged}`}>
          <button type="button" class="button" onClick={back}>
            {t.back}
          </button>
        </Notice>
      )}
      {wallets && (
        <fieldset class="wallets">
          <legend>{t.chooseWallet}</legend>
          {wallets.map((wallet) => (
            <button type="button" class="button" key={wallet.info.uuid} onClick={() => sign(wallet)}>
              {wallet.info.icon.startsWith("data:image/") && <img src={wallet.info.icon} alt="" width="20" height="20" />}
              {wallet.info.name}
            </button>
          ))}
        </fieldset>
      )}
      {busy && <Busy text={steps[step]} />}
      {silent && <Notice kind="info" text={t.silent} />}
      <div class="actions end">
        {waitsForWallet ? (
          <button type="button" class="button" onClick={() => givingUp.current.abort()}>
            {t.giveUp}
          </button>
        ) : (
          <button type="button" class="button" disabled={busy} onClick={back}>
            {t.back}
          </button>
        )}
        <button
          type="button"
          class="button primary"
          disabled={busy || account?.role !== "student" || lost.length > 0 || (balance !== null && balance < total)}
          onClick={again}
        >
          {account?.custodial === false ? t.signFor(picks.length, edu(total)) : t.bookFor(picks.length, edu(total))}
        </button>
      </div>
      <p class="muted end">
        {account?.custodial === false && t.yourWallet(short(account.wallet))} {t.oneTransaction}
      </p>
    </section>
  );

  function FreeUntil({ start, instant }: { start: number; instant: boolean }) {
    const moment = start - about.cancelSeconds * 1000;
    const text =
      moment > Date.now()
        ? t.until(`${day(moment)}, ${clock(moment)}`)
        : instant
          ? null
          : t.untilConfirmed;
    return text && <span class="other">{`${t.freeUntil} ${text}`}</span>;
  }
}

/** One sentence for each thing that can go wrong, and beside it what to do. */
function TroubleNotice(props: {
  trouble: Trouble;
  again: () => void;
  back: () => void;
  drop: (places: number[]) => void;
  showPrice: () => void;
  switched: (wallet: Wallet) => void;
  failed: (error: { code: WalletCode; message: string }, wallet: Wallet) => void;
}) {
  const { trouble, again, back, drop, showPrice, switched, failed } = props;
  const page = usePage();
  const { about, t, edu } = page;
  const button = (label: string, act: () => void) => (
    <button type="button" class="button" onClick={act}>
      {label}
    </button>
  );
  if (trouble.kind === "wallet") {
    const { code, message, wallet } = trouble;
    const more = code === "none" ? `${t.noWalletHelp} ${t.nothingCharged}` : t.nothingCharged;
    const change = async () => {
      const kit = await import("./wallet");
      const chosen = wallet ?? (await kit.discover())[0]!;
      await kit.switchChain(chosen, about.chainId).then(
        () => switched(chosen),
        (error) => failed(error, chosen),
      );
    };
    return (
      <Notice text={walletSentence(page, code, message)} more={more}>
        {code === "wrongChain"
          ? button(t.switchChain, change)
          : code === "mismatch"
            ? button(t.back, back)
            : button(t.retry, again)}
      </Notice>
    );
  }
  const { refusal } = trouble;
  const failures = refusal.failures ?? [];
  const places = failures.map(({ index }) => index);
  if (refusal.code === "insufficient_balance" && refusal.neededWei && refusal.availableWei) {
    const text = t.tooFew(edu(refusal.neededWei), edu(refusal.availableWei));
    return (
      <Notice text={text} more={`${t.tooFewHelp} ${t.nothingCharged}`}>
        {button(t.back, back)}
      </Notice>
    );
  }
  if (refusal.code === "rate_mismatch" || failures.some(({ code }) => code === "amount_mismatch")) {
    return (
      <Notice text={t.priceChanged} more={t.nothingCharged}>
        {button(t.showNewPrice, showPrice)}
      </Notice>
    );
  }
  const misread = failures.find(({ code }) => code === "time_zone_mismatch");
  if (misread) {
    return (
      <Notice text={t.otherHour} more={`${misread.error} ${t.nothingCharged}`}>
        {button(t.removeThem(failures.length), () => drop(places))}
      </Notice>
    );
  }
  if (failures.length) {
    const taken = failures.every(({ code }) => code === "taken");
    return (
      <Notice text={taken ? t.slotsTaken(failures.length) : t.slotsGone} more={t.nothingCharged}>
        {button(t.removeThem(failures.length), () => drop(places))}
      </Notice>
    );
  }
  if (refusal.code === "prepared_expired" || refusal.code === "expired") {
    return (
      <Notice text={t.expired} more={t.nothingCharged}>
        {button(t.retry, again)}
      </Notice>
    );
  }
  return <RefusalNotice refusal={refusal} retry={again} />;
}
