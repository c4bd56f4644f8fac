/** Screens D and E: how far a booking is, and its receipt. The address names it, so a reload resumes. */

import { useCallback, useEffect, useState } from "preact/hooks";
import {
  type BatchAnswer,
  type BatchData,
  type Failure,
  isRefusal,
  isSettled,
  isUnsure,
  type Refusal,
} from "./blockchainService";
import { calendarFile } from "./ics";
import { formatEdu } from "./money";
import { Busy, Link, listingPath, Notice, RefusalNotice, Title, useAnnonce, usePage, useWork, When } from "./page";
import { instantsOf } from "./time";

const FINALITY_MS = 5_000;

export function BatchPage({ batchId }: { batchId: string }) {
  const { t, service, refreshAccount } = usePage();
  const [batch, setBatch] = useState<BatchAnswer | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [cut, setCut] = useState(false);
  const [asked, setAsked] = useState(0);

  useWork(
    async (signal) => {
      const onAnswer = (answer: BatchAnswer | Refusal) => {
        setCut(isUnsure(answer));
        if (!isRefusal(answer)) setBatch(answer);
      };
      const settled = await service.waitForBatch(batchId, { signal, onAnswer });
      setRefusal(isRefusal(settled) ? settled : null);
      if (isRefusal(settled)) return;
      refreshAccount();
      await service.waitForBatch(batchId, { signal, onAnswer, until: "final", intervalMs: FINALITY_MS });
    },
    [service, batchId, asked],
  );

  if (refusal) return <RefusalNotice refusal={refusal} retry={() => setAsked(asked + 1)} />;
  const data = batch?.data;
  if (!data) return cut ? <Notice kind="warning" text={t.reconnecting} /> : <Busy text={t.loading} />;
  return (
    <>
      {!isSettled(data) ? (
        <section class="pending">
          <Title>{t.booking}</Title>
          <p class="muted">{t.keepOpen}</p>
          <Progress data={data} />
          {cut && <Notice kind="warning" text={t.reconnecting} />}
        </section>
      ) : data.count > 0 ? (
        <Receipt data={data} />
      ) : (
        <NothingBooked answer={batch} />
      )}
      {cut && isSettled(data) && <Notice kind="warning" text={t.reconnecting} />}
    </>
  );
}

/** signed → sent → in a block → final */
function Progress({ data }: { data: BatchData }) {
  const { t } = usePage();
  const reached = { accepted: 0, signed: 1, submitted: 2, mined: 3, final: 4 }[data.state as string] ?? 0;
  const names = [t.stepSigned, t.stepSent, t.stepMined, t.stepFinal];
  return (
    <>
      <p class="hidden" role="status">
        {names[reached - 1]}
      </p>
      <ol class="steps" aria-label={t.steps}>
      {names.map((name, place) => {
        const state = place < reached ? "done" : place === reached ? "now" : "later";
        return (
          <li key={name} class={state} aria-current={state === "now" ? "step" : undefined}>
            <span class="dot" aria-hidden="true" />
            {name} <span class="hidden">({t[state]})</span>
          </li>
        );
      })}
      </ol>
    </>
  );
}

function Receipt({ data }: { data: BatchData }) {
  const { t, about, edu, locale, zoneName } = usePage();
  const annonceId = data.bookings[0]!.annonceId;
  const annonce = useAnnonce(annonceId);
  const zone = annonce?.timeZone;
  const lessons = data.bookings.filter(({ status }) => status !== "CANCELLED");
  const save = () => {
    const entries = lessons.map((booking) => ({
      id: booking.id,
      start: Date.parse(booking.startsAt),
      minutes: booking.duration,
      title: annonce?.title ?? "Creneau",
      description: `${formatEdu(BigInt(booking.amountWei), locale)}\n${location.href}`,
    }));
    download("creneau.ics", "text/calendar", calendarFile(entries, Date.now()));
  };
  const { transactionHash: hash, blockNumber } = data;
  return (
    <section class="receipt">
      <div class="done">
        <span class="tick" aria-hidden="true">
          ✓
        </span>
        <div>
          <Title>{t.booked(data.count)}</Title>
          <p class="lead">{t.receipt(data.count, edu(data.totalAmountWei))}</p>
        </div>
      </div>
      {annonce && <p class="muted">{annonce.title}</p>}
      <ul class="lessons">
        {data.bookings.map((booking) => (
          <li key={booking.id}>
            <div>
              <When start={Date.parse(booking.startsAt)} minutes={booking.duration} other={zone} />
            </div>
            <span class={`badge ${booking.status}`}>{t.statuses[booking.status]}</span>
            <span class="price">{edu(booking.amountWei)}</span>
          </li>
        ))}
      </ul>
      {data.failures && <Failures failures={data.failures} zone={zone} />}
      <dl class="facts">
        <div class="total">
          <dt>{t.total}</dt>
          <dd>{edu(data.totalAmountWei)}</dd>
        </div>
        <div>
          <dt>{t.yourTime}</dt>
          <dd>{zoneName(Date.parse(data.bookings[0]!.startsAt))}</dd>
        </div>
      </dl>
      {annonce && lessons.length > 0 && <p>{annonce.instant ? t.nextInstant : t.nextPending}</p>}
      <details class="proof">
        <summary>{t.proof}</summary>
        <dl class="facts">
          {hash && (
            <div>
              <dt>{t.transaction}</dt>
              <dd>
                <code>{hash}</code>
                <span class="tools">
                  <Copy text={hash} label={t.copyHash} />
                  {about.explorer && (
                    <a href={`${about.explorer}/tx/${hash}`} rel="noreferrer" target="_blank">
                      {t.explorer}
                    </a>
                  )}
                </span>
              </dd>
            </div>
          )}
          {blockNumber !== null && (
            <div>
              <dt>{t.block}</dt>
              <dd>{blockNumber}</dd>
            </div>
          )}
          {data.bookings.map(({ id }, place) => (
            <div key={id}>
              <dt>{`${t.bookingId} ${place + 1}`}</dt>
              <dd>
                <code>{id}</code>
              </dd>
            </div>
          ))}
        </dl>
        <Progress data={data} />
        {data.state === "mined" && <p class="muted">{t.stepFinalHelp}</p>}
      </details>
      <div class="actions">
        {lessons.length > 0 && (
          <button type="button" class="button" onClick={save}>
            {t.calendarFile}
          </button>
        )}
        <button type="button" class="button" onClick={() => print()}>
          {t.print}
        </button>
        <Link to="/bookings" class="button">
          {t.myBookings}
        </Link>
        <Link to={listingPath(about, annonceId)} class="button primary">
          {t.bookMore}
        </Link>
      </div>
    </section>
  );
}

/** What was not booked, and why. */
function Failures({ failures, zone }: { failures: Failure[]; zone: string | undefined }) {
  const { t } = usePage();
  return (
    <div class="notice warning failures">
      <div>
        <p class="lead">{t.someFailed(failures.length)}</p>
        <ul>
          {failures.map(({ index, slot, code, error }) => {
            const start = zone && instantsOf(slot, zone)[0];
            return (
              <li key={index}>
                {start && t.reasons[code] ? (
                  <>
                    <When start={start} minutes={slot.duration} other={zone} />
                    <span class="why">{t.reasons[code]}</span>
                  </>
                ) : (
                  error
                )}
              </li>
            );
          })}
        </ul>
        <p>{t.notCharged}</p>
      </div>
    </div>
  );
}

function NothingBooked({ answer }: { answer: BatchAnswer }) {
  const { t } = usePage();
  const { failures } = answer.data;
  return (
    <section class="pending">
      <Title>{t.nothingBooked}</Title>
      {failures ? <Failures failures={failures} zone={undefined} /> : <Notice text={t.serviceSays(answer.message)} />}
      <div class="actions">
        <Link to="/" class="button primary">
          {t.chooseAgain}
        </Link>
      </div>
    </section>
  );
}

function Copy({ text, label }: { text: string; label: string }) {
  const { t } = usePage();
  const [copied, setCopied] = useState(false);
  const copy = useCallback(() => {
    navigator.clipboard.writeText(text).then(
      () => setCopied(true),
      () => setCopied(false),
    );
  }, [text]);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 3000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button type="button" class="button small" aria-label={label} onClick={copy}>
      <span role="status">{copied ? t.copied : t.copy}</span>
    </button>
  );
}

function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
