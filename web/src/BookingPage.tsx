/** Screens A to C: a listing and its week of slots, the review, and the confirmation. */

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Annonce, type CalendarAnswer, isRefusal, type Refusal, type Result } from "./blockchainService";
import { lessonWei } from "./money";
import { Busy, Notice, RefusalNotice, Title, useFresh, usePage, useWork, When } from "./page";
import { Review } from "./Review";
import { remember, remembered } from "./session";
import { DURATIONS, everyWeek, type Gap, isTaken, MOST_PICKS, type Pick, type Slot, week } from "./slots";
import { addDays, DAY, type Interval, localOf, mondayOf, sameClock, shortDay } from "./time";

const FRESH_MS = 30_000;
/** The service tells at most 62 days of a calendar at once. */
const CALENDAR_DAYS = 60;
const MOST_WEEKS = 12;

/** What the student has chosen so far. A tab keeps it over a reload. */
export interface Selection {
  picks: Pick[];
  notes: string;
  allowPartial: boolean;
  /** Weeks that a lesson could not be repeated in. */
  gaps?: Gap[];
}

export interface Listing {
  annonce: Annonce;
  rateWei: bigint;
  zone: string;
  schedule: Interval[] | null;
}

export function BookingPage({ annonceId, reviewing }: { annonceId: string | null; reviewing: boolean }) {
  const { t, about } = usePage();
  const id = annonceId ?? about.annonceId;
  if (id) return <Booking id={id} reviewing={reviewing} key={id} />;
  return (
    <>
      <Title>{t.noListing}</Title>
      <p>{t.noListingHelp}</p>
    </>
  );
}

function Booking({ id, reviewing }: { id: string; reviewing: boolean }) {
  const { t, service, zone, go } = usePage();
  const [listing, setListing] = useState<Listing | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [taken, setTaken] = useState<Interval[]>([]);
  const [seen, setSeen] = useState<Interval | null>(null);
  const [away, setAway] = useState<Refusal | null>(null);
  const [asked, setAsked] = useState(0);
  const [duration, setDuration] = useState(60);
  const [monday, showMonday] = useState(() => mondayInAddress(zone) ?? firstMonday(zone));
  const setMonday = (shown: string) => {
    const query = new URLSearchParams(location.search);
    query.set("week", shown);
    history.replaceState(history.state, "", `${location.pathname}?${query}`);
    showMonday(shown);
  };
  const [selection, setSelection] = useSelection(id);
  const { picks } = selection;

  const read = useCallback(() => setAsked((count) => count + 1), []);
  useWork(
    async (signal) => {
      const answer = await service.getAnnonce(id, { signal });
      setRefusal(isRefusal(answer) ? answer : null);
      if (isRefusal(answer)) return;
      const found = listingOf(answer.data);
      if (!listing && !mondayInAddress(zone)) showMonday(firstMonday(zone, found.schedule));
      setListing(found);
    },
    [service, id, asked],
  );

  const tutorId = listing?.annonce.tutorId;
  const calendar = async (from: number, to: number, signal?: AbortSignal): Promise<Interval[] | Refusal> => {
    const parts: Promise<Result<CalendarAnswer>>[] = [];
    for (let begin = from; begin < to; begin += CALENDAR_DAYS * DAY) {
      const [first, last] = [begin, Math.min(begin + CALENDAR_DAYS * DAY, to)].map((at) => new Date(at).toISOString());
      parts.push(service.getCalendar(tutorId!, first!, last!, { signal }));
    }
    const answers = await Promise.all(parts);
    return answers.find(isRefusal) ?? answers.flatMap((part) => (part as CalendarAnswer).data.taken.map(toInterval));
  };

  // The week on the screen, and those of what is picked.
  const { start: from, end: to } = spanOf([monday, ...picks.map(({ start }) => mondayOf(localOf(start, zone).date))]);
  const look = async (signal: AbortSignal) => {
    if (!tutorId) return;
    const known = await calendar(from, to, signal);
    setAway(isRefusal(known) ? known : null);
    // Without an answer what was known stays on the screen; booking checks it again anyway.
    if (isRefusal(known)) return;
    setTaken(known);
    setSeen({ start: from, end: to });
  };
  useFresh(look, FRESH_MS, [service, tutorId, from, to, asked]);

  const repeat = async (pick: Pick, weeks: number): Promise<Refusal | null> => {
    const known = await calendar(Math.min(pick.start, from), Math.max(pick.start + (7 * weeks + 4) * DAY, to));
    if (isRefusal(known)) return known;
    const { zone: tutorZone, schedule } = listing!;
    setTaken(known);
    setSelection({
      ...selection,
      ...everyWeek(pick, weeks, { tutorZone, schedule, taken: known, picks, now: Date.now() }),
    });
    return null;
  };

  /** Shows the first week from the one on the screen on that has a free time. */
  const findFree = async (): Promise<Refusal | null> => {
    const mondays = Array.from({ length: MOST_WEEKS }, (_, number) => addDays(monday, 7 * number));
    const { start, end } = spanOf(mondays);
    const known = await calendar(start, end);
    if (isRefusal(known)) return known;
    const { zone: tutorZone, schedule } = listing!;
    const options = { viewerZone: zone, tutorZone, schedule, taken: known, picks, duration, now: Date.now() };
    const isFree = (first: string) =>
      week({ ...options, monday: first }).some(({ slots }) => slots.some(({ state }) => state === "free"));
    setMonday(mondays.find(isFree) ?? mondays.at(-1)!);
    return null;
  };

  if (refusal && !listing) return <RefusalNotice refusal={refusal} retry={read} />;
  if (!listing) return <Busy text={t.loading} />;
  const shared = { listing, taken, selection, setSelection };
  if (reviewing && picks.length) {
    return <Review {...shared} refresh={read} back={() => go(`/${location.search}`)} />;
  }
  const shown = spanOf([monday]);
  const isSeen = seen !== null && seen.start <= shown.start && shown.end <= seen.end;
  const choice = { duration, setDuration, monday, setMonday, findFree, repeat, isSeen, away: isSeen ? null : away, read };
  return <Choice {...shared} {...choice} />;
}

function Choice(props: {
  listing: Listing;
  taken: Interval[];
  selection: Selection;
  setSelection: (selection: Selection) => void;
  duration: number;
  setDuration: (minutes: number) => void;
  monday: string;
  setMonday: (monday: string) => void;
  findFree: () => Promise<Refusal | null>;
  /** Whether the calendar of this week has come: until then nothing is called free. */
  isSeen: boolean;
  away: Refusal | null;
  read: () => void;
  repeat: (pick: Pick, weeks: number) => Promise<Refusal | null>;
}) {
  const { listing, taken, selection, setSelection, duration, setDuration, monday, setMonday, findFree } = props;
  const { isSeen, away, read } = props;
  const { t, locale, zone, edu, zoneName } = usePage();
  const { picks } = selection;
  const now = useNow();
  const days = useMemo(
    () =>
      week({
        monday,
        viewerZone: zone,
        tutorZone: listing.zone,
        schedule: listing.schedule,
        taken,
        picks,
        duration,
        now,
      }),
    [monday, zone, listing, taken, picks, duration, now],
  );
  const noon = Date.parse(`${monday}T12:00:00Z`);
  const first = firstMonday(zone);
  const toggle = (slot: Pick) => {
    const left = picks.filter(({ start }) => start !== slot.start);
    if (left.length < picks.length) setSelection({ ...selection, picks: left });
    else if (picks.length < MOST_PICKS) {
      const added = [...picks, { start: slot.start, duration: slot.duration }];
      setSelection({ ...selection, picks: added.sort((a, b) => a.start - b.start) });
    }
  };
  const all = days.flatMap(({ slots }) => slots);
  const grid = useRef<HTMLOListElement>(null);
  const [current, setCurrent] = useState<number | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  // One stop for the tab key; the arrows move between the times (ARIA Authoring Practices, roving tabindex).
  const stop = (all.find(({ start }) => start === current) ?? all.find(({ state }) => state === "picked") ?? all[0])?.start;
  const move = (event: KeyboardEvent) => {
    const columns = days.map(({ slots }) => slots).filter(({ length }) => length > 0);
    const x = columns.findIndex((column) => column.some(({ start }) => start === stop));
    const y = columns[x]?.findIndex(({ start }) => start === stop) ?? 0;
    const beside = (column: Slot[] | undefined) => column?.[Math.min(y, column.length - 1)];
    const next = {
      ArrowUp: columns[x]?.[y - 1],
      ArrowDown: columns[x]?.[y + 1],
      ArrowLeft: beside(columns[x - 1]),
      ArrowRight: beside(columns[x + 1]),
      Home: columns[x]?.[0],
      End: columns[x]?.at(-1),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    setCurrent(next.start);
    grid.current!.querySelector<HTMLElement>(`[data-start="${next.start}"]`)!.focus();
  };
  const heads = days.map(({ date }) => shortDay(date, locale));

  return (
    <div class="listing">
      <section class="calendar" aria-labelledby="listing-title">
        <div class="intro" id="listing-title">
          <Title focus={false}>{listing.annonce.title}</Title>
          <p class="rate">{t.perHour(edu(listing.rateWei))}</p>
        </div>
        <p class="zones">
          {sameClock(zone, listing.zone, noon) ? (
            t.sameZone(zoneName(noon))
          ) : (
            <>
              {t.zones(zoneName(noon))} {t.tutorZone(zoneName(noon, listing.zone))}
            </>
          )}
        </p>
        <div class="controls">
          <fieldset class="switch">
            <legend class="hidden">{t.duration}</legend>
            {DURATIONS.map((minutes) => (
              <button
                type="button"
                key={minutes}
                aria-pressed={minutes === duration}
                onClick={() => setDuration(minutes)}
              >
                {t.minutes(minutes)}
              </button>
            ))}
          </fieldset>
          <div class="weeks" role="group" aria-label={t.weekOf}>
            <button
              type="button"
              class="arrow"
              aria-label={t.previousWeek}
              disabled={monday <= first}
              onClick={() => setMonday(addDays(monday, -7))}
            >
              ‹
            </button>
            <label class="span">
              <span aria-live="polite">{t.week(heads[0]!.day, heads[6]!.day)}</span>
              <input
                type="date"
                aria-label={t.goToDay}
                min={first}
                value={monday}
                onChange={({ currentTarget: { value } }) => value && setMonday(value < first ? first : mondayOf(value))}
              />
            </label>
            <button
              type="button"
              class="arrow"
              aria-label={t.nextWeek}
              onClick={() => setMonday(addDays(monday, 7))}
            >
              ›
            </button>
          </div>
        </div>
        {away && <RefusalNotice refusal={away} retry={read} />}
        {isSeen && !all.some(({ state }) => state === "free" || state === "picked") && (
          <Notice kind="info" text={t.noneThisWeek}>
            <button type="button" class="button" onClick={async () => setRefusal(await findFree())}>
              {t.firstFree}
            </button>
          </Notice>
        )}
        {refusal && <RefusalNotice refusal={refusal} />}
        <p id="times" class="hidden">
          {t.times}
        </p>
        <ol class="days" ref={grid} aria-describedby="times" aria-busy={!isSeen} onKeyDown={move}>
          {days.map(({ date, slots }, number) => (
            <li key={date} class={slots.length ? "" : "empty"}>
              <h2>
                <span class="weekday">{heads[number]!.weekday}</span> {heads[number]!.day}
              </h2>
              {slots.length === 0 && (
                <p class="none">
                  <span aria-hidden="true">–</span>
                  <span class="hidden">{t.noSlotsLong}</span>
                </p>
              )}
              {slots.length > 0 && (
                <ul>
                  {slots.map((slot) => (
                    <li key={slot.start} class={isSeen ? undefined : "ghost"}>
                      {isSeen && (
                        <SlotButton
                          slot={slot}
                          listing={listing}
                          stop={slot.start === stop}
                          toggle={() => {
                            setCurrent(slot.start);
                            toggle(slot);
                          }}
                          focused={() => setCurrent(slot.start)}
                        />
                      )}
                    </li>
                  ))}
                </ul>
              )}
            </li>
          ))}
        </ol>
      </section>
      <Basket {...props} now={now} toggle={toggle} />
    </div>
  );
}

function SlotButton(props: {
  slot: Slot;
  listing: Listing;
  /** Whether the tab key stops here. */
  stop: boolean;
  toggle: () => void;
  focused: () => void;
}) {
  const { slot, listing, stop, toggle, focused } = props;
  const { t, clock, day, zone, edu, zoneName } = usePage();
  const { start, duration, state } = slot;
  const theirs = sameClock(zone, listing.zone, start)
    ? ""
    : t.inZone(clock(start, listing.zone), zoneName(start, listing.zone));
  const price = edu(lessonWei(listing.rateWei, duration));
  const label = t.slot(day(start), clock(start), theirs, price);
  const picked = state === "picked" || state === "lost";
  const why = state === "taken" || state === "lost" ? t.taken : state === "overlapping" ? t.overlapping : null;
  return (
    <button
      type="button"
      class={`slot ${state}`}
      aria-pressed={picked}
      aria-disabled={why !== null && !picked}
      aria-label={why ? `${label}, ${why}` : label}
      data-why={state === "taken" || state === "lost" ? t.taken : undefined}
      data-start={start}
      tabIndex={stop ? 0 : -1}
      onFocus={focused}
      onClick={() => (why === null || picked) && toggle()}
    >
      {clock(start)}
    </button>
  );
}

/** The bar: what is chosen, what it costs, and on to the review. */
function Basket(props: {
  listing: Listing;
  taken: Interval[];
  selection: Selection;
  setSelection: (selection: Selection) => void;
  now: number;
  toggle: (pick: Pick) => void;
  repeat: (pick: Pick, weeks: number) => Promise<Refusal | null>;
}) {
  const { listing, taken, selection, setSelection, now, toggle, repeat } = props;
  const { t, account, edu, clock, day, go } = usePage();
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const { picks } = selection;
  const gone = picks.filter((pick) => isTaken(pick, taken) || pick.start <= now);
  const total = picks.reduce((sum, { duration }) => sum + lessonWei(listing.rateWei, duration), 0n);
  const student = account?.role === "student";
  const full = picks.length >= MOST_PICKS;
  const isRepeated = ({ start }: Pick) => picks.some((one) => isWeeksLater(start, one.start, listing.zone));
  const everyWeekOf = async (pick: Pick, weeks: number) => {
    setBusy(true);
    setRefusal(await repeat(pick, weeks));
    setBusy(false);
  };
  return (
    <aside class="basket" aria-labelledby="basket-title">
      <h2 id="basket-title">{t.selection}</h2>
      {picks.length === 0 ? (
        <p class="muted">{t.nothingSelected}</p>
      ) : (
        <ul class="picks">
          {picks.map((pick) => {
            const lost = gone.includes(pick);
            const name = `${day(pick.start)}, ${clock(pick.start)}`;
            return (
              <li key={pick.start} class={lost ? "lost" : ""}>
                <When start={pick.start} minutes={pick.duration} other={listing.zone} />
                {lost && (
                  <span class="why" role="alert">
                    {pick.start <= now ? t.over : t.takenMeanwhile}
                  </span>
                )}
                <button
                  type="button"
                  class={lost ? "button small" : "cross"}
                  aria-label={t.remove(name)}
                  onClick={() => toggle(pick)}
                >
                  {lost ? t.removeTaken : "×"}
                </button>
                {!lost && !full && !isRepeated(pick) && (
                  <select
                    class="weekly"
                    aria-label={t.repeat(name)}
                    disabled={busy}
                    value=""
                    onChange={({ currentTarget }) => {
                      const weeks = Number(currentTarget.value);
                      currentTarget.value = "";
                      void everyWeekOf(pick, weeks);
                    }}
                  >
                    <option value="">{t.everyWeek}</option>
                    {Array.from({ length: MOST_WEEKS - 1 }, (_, place) => place + 2).map((weeks) => (
                      <option key={weeks} value={weeks}>
                        {t.weeks(weeks)}
                      </option>
                    ))}
                  </select>
                )}
              </li>
            );
          })}
        </ul>
      )}
      {busy && <Busy text={t.loading} />}
      {refusal && <RefusalNotice refusal={refusal} />}
      <Gaps {...{ listing, selection, setSelection }} />
      <div class="sum">
        <p role="status" class="summary">
          {picks.length > 0 && t.summary(picks.length, edu(total))}
        </p>
        {full && <p class="muted">{t.full}</p>}
        {account && !student && <p class="muted">{t.onlyStudents}</p>}
        <button
          type="button"
          class="button primary"
          disabled={picks.length === 0 || gone.length > 0 || !student}
          onClick={() => go(`/review${location.search}`)}
        >
          {t.review}
        </button>
      </div>
    </aside>
  );
}

/** Whether one lesson begins at the same hour of the week as another, and later. */
function isWeeksLater(start: number, other: number, zone: string): boolean {
  const [one, first] = [localOf(start, zone), localOf(other, zone)];
  const days = (Date.parse(one.date) - Date.parse(first.date)) / DAY;
  return one.time === first.time && days > 0 && days % 7 === 0;
}

/** The weeks in which a lesson could not be repeated, each with the nearest free time. */
function Gaps(props: {
  listing: Listing;
  selection: Selection;
  setSelection: (selection: Selection) => void;
}) {
  const { listing, selection, setSelection } = props;
  const { t, clock, day } = usePage();
  const { picks, gaps = [] } = selection;
  if (gaps.length === 0) return null;
  const without = (gap: Gap) => gaps.filter((one) => one !== gap);
  const take = (gap: Gap, start: number) => {
    const added = [...picks, { start, duration: gap.duration }].sort((a, b) => a.start - b.start);
    setSelection({ ...selection, picks: added, gaps: without(gap) });
  };
  return (
    <div class="gaps" role="group" aria-labelledby="gaps-title">
      <p id="gaps-title" role="status">
        {t.gaps(gaps.length)}
      </p>
      <ul class="picks">
        {gaps.map((gap) => {
          const { wanted, duration, instead } = gap;
          const name = `${day(wanted)}, ${clock(wanted)}`;
          return (
            <li key={wanted}>
              <When start={wanted} minutes={duration} other={listing.zone} />
              <button
                type="button"
                class="cross"
                aria-label={t.remove(name)}
                onClick={() => setSelection({ ...selection, gaps: without(gap) })}
              >
                ×
              </button>
              {instead === null || picks.length >= MOST_PICKS ? (
                <span class="other">{t.noneThatWeek}</span>
              ) : (
                <button type="button" class="button small" onClick={() => take(gap, instead)}>
                  {t.instead(`${day(instead)}, ${clock(instead)}`)}
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

// --- State ---

function useSelection(id: string): [Selection, (selection: Selection) => void] {
  const name = `selection.${id}`;
  const [selection, setSelection] = useState<Selection>(
    () => remembered<Selection>(name) ?? { picks: [], notes: "", allowPartial: true },
  );
  const change = (next: Selection) => {
    remember(name, next);
    setSelection(next);
  };
  return [selection, change];
}

/** The time, a minute exact. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 60_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** The time of weeks by every clock: their ends, and two days around. */
function spanOf(mondays: string[]): Interval {
  const at = mondays.map((monday) => Date.parse(monday));
  return { start: Math.min(...at) - 2 * DAY, end: Math.max(...at) + 9 * DAY };
}

/** The week that the address names, if it is not over. */
function mondayInAddress(zone: string): string | null {
  const named = new URLSearchParams(location.search).get("week") ?? "";
  if (!/^\d{4}-\d{2}-\d{2}$/.test(named) || Number.isNaN(Date.parse(named))) return null;
  const monday = mondayOf(named);
  return monday < firstMonday(zone) ? null : monday;
}

/** This week, or the next one at its end; where the tutor's hours are known, the first that has any. */
function firstMonday(zone: string, schedule: Interval[] | null = null): string {
  const soon = Date.now() + DAY;
  const next = schedule?.find(({ end }) => end > soon);
  return mondayOf(localOf(Math.max(next?.start ?? 0, soon), zone).date);
}

function listingOf(annonce: Annonce): Listing {
  const schedule = annonce.schedule?.map(toInterval) ?? null;
  return { annonce, rateWei: BigInt(annonce.hourlyRateWei), zone: annonce.timeZone, schedule };
}

function toInterval({ start, end }: { start: string; end: string }): Interval {
  return { start: Date.parse(start), end: Date.parse(end) };
}

