/** The times that can be picked: a tutor's hours, cut into lessons. */

import { addDays, instantsOf, type Interval, localOf, MINUTE, overlap } from "./time";

/** A lesson to be: when it starts and how many minutes it lasts. */
export interface Pick {
  start: number;
  duration: number;
}

/** `lost`: picked, and taken by somebody else meanwhile. */
export type SlotState = "free" | "picked" | "lost" | "taken" | "overlapping";

export interface Slot extends Pick {
  state: SlotState;
}

export const DURATIONS = [30, 60, 90, 120];
export const MOST_PICKS = 40;

/** Hours of a tutor who has published none, in their zone. */
const OPENS = 9 * 60;
const CLOSES = 19 * 60;
const QUARTER = 15 * MINUTE;
/** The service refuses what begins within a minute; nobody reviews faster than this. */
const LEAD = 5 * MINUTE;

export function interval({ start, duration }: Pick): Interval {
  return { start, end: start + duration * MINUTE };
}

/** The tutor's hours on a day of their zone: those published, or the usual ones. */
export function openings(date: string, zone: string, schedule: Interval[] | null): Interval[] {
  const midnight = clockOf(date, 0, zone);
  const next = clockOf(addDays(date, 1), 0, zone);
  if (schedule) {
    return schedule
      .map(({ start, end }) => ({ start: Math.max(start, midnight), end: Math.min(end, next) }))
      .filter(({ start, end }) => start < end);
  }
  return [{ start: clockOf(date, OPENS, zone), end: clockOf(date, CLOSES, zone) }];
}

/** When a day's clock shows so many minutes; where the clocks skip that, an hour later. */
function clockOf(date: string, minutes: number, zone: string): number {
  const pad = (number: number) => String(number).padStart(2, "0");
  const time = `${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`;
  return instantsOf({ date, time }, zone)[0] ?? clockOf(date, minutes + 60, zone);
}

/** The lessons of one length that fit into an opening. Clock times that come twice can't be asked for. */
function cut(opening: Interval, duration: number, zone: string): Pick[] {
  const found: Pick[] = [];
  const first = Math.ceil(opening.start / QUARTER) * QUARTER;
  for (let start = first; start + duration * MINUTE <= opening.end; start += duration * MINUTE) {
    if (instantsOf(localOf(start, zone), zone).length === 1) found.push({ start, duration });
  }
  return found;
}

/** A week in which a lesson can't be repeated at its time, and the nearest free time in it, if there is one. */
export interface Gap {
  wanted: number;
  duration: number;
  instead: number | null;
}

/** What is known of a tutor's time, and of the student's choice so far. */
interface Known {
  tutorZone: string;
  schedule: Interval[] | null;
  taken: Interval[];
  picks: Pick[];
  now: number;
}

/** A lesson at the same time of the tutor's clock in each of so many weeks, its own being the first. */
export function everyWeek(pick: Pick, weeks: number, known: Known): { picks: Pick[]; gaps: Gap[] } {
  const { tutorZone, schedule, taken, now } = known;
  const { duration } = pick;
  const { date, time } = localOf(pick.start, tutorZone);
  const [hours, minutes] = time.split(":").map(Number) as [number, number];
  const picks = [...known.picks];
  const gaps: Gap[] = [];
  const isFree = (one: Pick) =>
    one.start >= now + LEAD && !isTaken(one, taken) && !isTaken(one, picks.map(interval));
  for (let number = 1; number < weeks && picks.length < MOST_PICKS; number += 1) {
    const day = addDays(date, 7 * number);
    const instants = instantsOf({ date: day, time }, tutorZone);
    const wanted = { start: instants[0] ?? clockOf(day, hours * 60 + minutes, tutorZone), duration };
    if (picks.some((one) => one.start === wanted.start && one.duration === duration)) continue;
    const { start, end } = interval(wanted);
    const isOpen = openings(day, tutorZone, schedule).some((one) => one.start <= start && end <= one.end);
    if (instants.length === 1 && isOpen && isFree(wanted)) {
      picks.push(wanted);
      continue;
    }
    const near = [-3, -2, -1, 0, 1, 2, 3]
      .flatMap((days) => openings(addDays(day, days), tutorZone, schedule))
      .flatMap((opening) => cut(opening, duration, tutorZone))
      .filter(isFree)
      .sort((a, b) => Math.abs(a.start - start) - Math.abs(b.start - start));
    gaps.push({ wanted: start, duration, instead: near[0]?.start ?? null });
  }
  return { picks: picks.sort((a, b) => a.start - b.start), gaps };
}

/** Each day's slots, by the viewer's calendar, for the seven days from `monday`. */
export function week(options: {
  monday: string;
  viewerZone: string;
  tutorZone: string;
  schedule: Interval[] | null;
  taken: Interval[];
  picks: Pick[];
  duration: number;
  now: number;
}): { date: string; slots: Slot[] }[] {
  const { monday, viewerZone, tutorZone, schedule, taken, picks, duration, now } = options;
  const days = Array.from({ length: 7 }, (_, number) => addDays(monday, number));
  // The tutor's days that touch the viewer's week: clocks are at most 26 hours apart.
  const theirs = Array.from({ length: 11 }, (_, number) => addDays(monday, number - 2));
  const all = theirs
    .flatMap((date) => openings(date, tutorZone, schedule))
    .flatMap((opening) => cut(opening, duration, tutorZone))
    .filter(({ start }) => start >= now + LEAD)
    .map((pick): Slot => ({ ...pick, state: stateOf(pick, taken, picks) }));
  return days.map((date) => ({
    date,
    slots: all.filter(({ start }) => localOf(start, viewerZone).date === date),
  }));
}

function stateOf(slot: Pick, taken: Interval[], picks: Pick[]): SlotState {
  const picked = picks.some((pick) => pick.start === slot.start && pick.duration === slot.duration);
  if (isTaken(slot, taken)) return picked ? "lost" : "taken";
  if (picked) return "picked";
  return picks.some((pick) => overlap(interval(pick), interval(slot))) ? "overlapping" : "free";
}

export function isTaken(pick: Pick, taken: Interval[]): boolean {
  return taken.some((one) => overlap(one, interval(pick)));
}
