/** Instants are milliseconds since 1970 inside; days and clock times belong to an IANA zone. `Intl` does the rest. */

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** A day "2035-03-05" and a clock time "09:30" in some zone. */
export interface Local {
  date: string;
  time: string;
}

/** A stretch of time: start included, end not. */
export interface Interval {
  start: number;
  end: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(locale: string, zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = JSON.stringify([locale, zone, options]);
  let found = formats.get(key);
  if (!found) formats.set(key, (found = new Intl.DateTimeFormat(locale, { timeZone: zone, ...options })));
  return found;
}

const ISO: Intl.DateTimeFormatOptions = {
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
};

/** The viewer's own zone; UTC where the system has none that the browser knows ("Etc/Unknown"). */
export function viewerZone(): string {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  try {
    return new Intl.DateTimeFormat("en", { timeZone }).resolvedOptions().timeZone ?? "UTC";
  } catch {
    return "UTC";
  }
}

/** The language as it is written where the browser is at home: English with French dates in France. */
export function localeOf(language: string, languages: readonly string[]): string {
  const [first = language] = languages;
  if (first.slice(0, 2) === language) return first;
  const region = /-([A-Z]{2})\b/.exec(first)?.[1];
  const wanted = `${language}-${region}`;
  if (region && Intl.DateTimeFormat(wanted).resolvedOptions().locale === wanted) return wanted;
  return region && language === "en" ? "en-150" : language;
}

/** What calendar and clock show in a zone at an instant. */
export function localOf(instant: number, zone: string): Local {
  const part = Object.fromEntries(format("en-GB", zone, ISO).formatToParts(instant).map((p) => [p.type, p.value]));
  return { date: `${part.year}-${part.month}-${part.day}`, time: `${part.hour}:${part.minute}` };
}

/** When a clock shows this: one instant; none in the hour that a clock change skips; two in one that comes twice. */
export function instantsOf({ date, time }: Local, zone: string): number[] {
  const asUtc = Date.parse(`${date}T${time}:00Z`);
  const offsets = new Set([asUtc - DAY, asUtc + DAY].map((at) => offset(at, zone)));
  return [...offsets]
    .map((minutes) => asUtc - minutes)
    .filter((instant) => {
      const local = localOf(instant, zone);
      return local.date === date && local.time === time;
    })
    .sort((a, b) => a - b);
}

/** How far the zone's clocks are ahead of UTC at an instant. */
function offset(instant: number, zone: string): number {
  const { date, time } = localOf(instant, zone);
  return Date.parse(`${date}T${time}:00Z`) - Math.floor(instant / MINUTE) * MINUTE;
}

/** The day so many days later. */
export function addDays(date: string, days: number): string {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * DAY).toISOString().slice(0, 10);
}

/** The Monday on or before a day. */
export function mondayOf(date: string): string {
  const weekday = new Date(`${date}T00:00:00Z`).getUTCDay();
  return addDays(date, -((weekday + 6) % 7));
}

/** "09:30" or "9:30 AM". */
export function clock(instant: number, zone: string, locale: string): string {
  return format(locale, zone, { timeStyle: "short" }).format(instant);
}

/** "Monday 5 March", with the year where it is not this one. */
export function day(instant: number, zone: string, locale: string, now = Date.now()): string {
  const otherYear = localOf(instant, zone).date.slice(0, 4) !== localOf(now, zone).date.slice(0, 4);
  const year = otherYear ? { year: "numeric" as const } : {};
  return format(locale, zone, { weekday: "long", day: "numeric", month: "long", ...year }).format(instant);
}

/** The parts of a day for the head of a column: "Mon" and "5 Mar". */
export function shortDay(date: string, locale: string): { weekday: string; day: string } {
  const noon = Date.parse(`${date}T12:00:00Z`);
  return {
    weekday: format(locale, "UTC", { weekday: "short" }).format(noon),
    day: format(locale, "UTC", { day: "numeric", month: "short" }).format(noon),
  };
}

/** A zone as people know it: "Paris (GMT+1)". */
export function zoneName(zone: string, instant: number, locale: string): string {
  const parts = format(locale, zone, { timeZoneName: "shortOffset" }).formatToParts(instant);
  const name = parts.find((part) => part.type === "timeZoneName")!.value;
  const city = zone.split("/").at(-1)!.replaceAll("_", " ");
  return city === name ? name : `${city} (${name})`;
}

/** Whether two zones show the same clock at an instant. */
export function sameClock(zone: string, other: string, instant: number): boolean {
  return zone === other || offset(instant, zone) === offset(instant, other);
}

/** Whether two stretches of time share any. */
export function overlap(a: Interval, b: Interval): boolean {
  return a.start < b.end && b.start < a.end;
}
