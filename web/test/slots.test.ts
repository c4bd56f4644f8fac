import { describe, expect, it } from "vitest";
import { everyWeek, isTaken, MOST_PICKS, type Pick, week } from "../src/slots";
import { HOUR, type Interval, localOf } from "../src/time";

const at = Date.parse;
const PARIS = "Europe/Paris";

function days(options: Partial<Parameters<typeof week>[0]> = {}) {
  return week({
    monday: "2035-03-05",
    viewerZone: PARIS,
    tutorZone: PARIS,
    schedule: null,
    taken: [],
    picks: [],
    duration: 60,
    now: at("2035-01-01T00:00:00Z"),
    ...options,
  });
}

const clocks = (slots: Pick[], zone = PARIS) => slots.map(({ start }) => localOf(start, zone).time);

describe("a week", () => {
  it("has the usual hours of the tutor's zone, cut into lessons of one length", () => {
    expect(days().map(({ date }) => date.slice(8))).toEqual(["05", "06", "07", "08", "09", "10", "11"]);
    expect(clocks(days()[0]!.slots).map((clock) => clock.slice(0, 2)).join()).toBe("09,10,11,12,13,14,15,16,17,18");
    expect(clocks(days({ duration: 90 })[0]!.slots)).toEqual(["09:00", "10:30", "12:00", "13:30", "15:00", "16:30"]);
  });

  it("is the viewer's: what is Monday there may be Sunday or Tuesday here", () => {
    const far = days({ viewerZone: "Pacific/Kiritimati" }); // Thirteen hours ahead of Paris.
    expect(far.flatMap(({ slots }) => slots)).toHaveLength(70);
    for (const { date, slots } of far) {
      for (const { start } of slots) expect(localOf(start, "Pacific/Kiritimati").date).toBe(date);
    }
  });

  it("has nothing that is past or begins at once", () => {
    const [monday] = days({ now: at("2035-03-05T10:57:00Z") }); // 11:57 in Paris.
    expect(clocks(monday!.slots)).toEqual(["13:00", "14:00", "15:00", "16:00", "17:00", "18:00"]);
  });

  it("is the tutor's published hours, where there are any", () => {
    const schedule = [{ start: at("2035-03-06T08:00:00Z"), end: at("2035-03-06T10:30:00Z") }];
    const found = days({ schedule });
    expect(found.map(({ slots }) => slots.length)).toEqual([0, 2, 0, 0, 0, 0, 0]);
    expect(clocks(found[1]!.slots)).toEqual(["09:00", "10:00"]);
  });

  it("begins anew each day where the hours have no end, and on a quarter of an hour", () => {
    const schedule = [{ start: at("2035-02-01T00:00:00Z"), end: at("2035-03-06T08:10:00Z") }];
    const found = days({ schedule, duration: 120 });
    expect(found.map(({ slots }) => slots.length)).toEqual([12, 4, 0, 0, 0, 0, 0]);
    expect(clocks(found[1]!.slots)).toEqual(["00:00", "02:00", "04:00", "06:00"]);
    const odd = [{ start: at("2035-03-05T08:05:00Z"), end: at("2035-03-05T10:20:00Z") }];
    expect(clocks(days({ schedule: odd })[0]!.slots)).toEqual(["09:15", "10:15"]);
  });

  it("leaves out the clock times that come twice, which can't be asked for, and has none that are skipped", () => {
    const night = (day: string): Interval[] => [{ start: at(`${day}T22:00:00Z`), end: at(`${day}T22:00:00Z`) + 8 * HOUR }];
    const now = at("2027-01-01T00:00:00Z");
    const autumn = days({ now, monday: "2027-10-25", schedule: night("2027-10-30") });
    expect(clocks(autumn.flatMap(({ slots }) => slots))).toEqual(["00:00", "01:00", "03:00", "04:00", "05:00", "06:00"]);
    const spring = days({ now, monday: "2027-03-22", schedule: night("2027-03-27") });
    expect(clocks(spring.flatMap(({ slots }) => slots))).toEqual(["23:00", "00:00", "01:00", "03:00", "04:00", "05:00", "06:00", "07:00"]);
  });
});

describe("a slot", () => {
  const nine = { start: at("2035-03-05T08:00:00Z"), duration: 60 };
  const state = (options: object) => days(options)[0]!.slots.map((slot) => slot.state);

  it("is taken by any quarter of an hour of another lesson, and not by one that only touches it", () => {
    const taken = [{ start: nine.start + HOUR - 1, end: nine.start + HOUR + 1 }];
    expect(state({ taken }).slice(0, 3)).toEqual(["taken", "taken", "free"]);
    expect(state({ taken, picks: [nine] })[0]).toBe("lost");
    expect(isTaken(nine, [{ start: nine.start - HOUR, end: nine.start }])).toBe(false);
  });

  it("is picked, or overlaps what is picked in another length", () => {
    expect(state({ picks: [nine] }).slice(0, 2)).toEqual(["picked", "free"]);
    expect(state({ picks: [{ ...nine, duration: 90 }] }).slice(0, 3)).toEqual(["overlapping", "overlapping", "free"]);
  });
});

describe("every week", () => {
  const base = { start: at("2035-03-06T16:00:00Z"), duration: 60 }; // A Tuesday, 17:00 in Paris.
  const repeated = (weeks: number, options: Partial<Parameters<typeof everyWeek>[2]> = {}) =>
    everyWeek(base, weeks, {
      tutorZone: PARIS,
      schedule: null,
      taken: [],
      picks: [base],
      now: at("2035-01-01T00:00:00Z"),
      ...options,
    });
  const shown = (starts: number[], zone = PARIS) =>
    starts.map((start) => Object.values(localOf(start, zone)).join(" ").slice(5));
  const starts = (picks: Pick[]) => picks.map(({ start }) => start);

  it("is the same hour of the tutor's clock, over a clock change too", () => {
    const { picks, gaps } = repeated(4);
    expect(shown(starts(picks))).toEqual(["03-06 17:00", "03-13 17:00", "03-20 17:00", "03-27 17:00"]);
    expect(picks[3]!.start - picks[2]!.start).toBe(7 * 24 * HOUR - HOUR); // Paris is an hour ahead by then.
    expect(gaps).toEqual([]);
  });

  it("leaves out a week that is taken, and names the nearest free time in it", () => {
    const taken = [{ start: at("2035-03-13T15:00:00Z"), end: at("2035-03-13T17:00:00Z") }]; // 16:00 to 18:00.
    const { picks, gaps } = repeated(3, { taken });
    expect(shown(starts(picks))).toEqual(["03-06 17:00", "03-20 17:00"]);
    expect(shown([gaps[0]!.wanted, gaps[0]!.instead!])).toEqual(["03-13 17:00", "03-13 18:00"]);
    expect(gaps).toHaveLength(1);
  });

  it("names no time where the tutor has no hours", () => {
    const schedule = [
      { start: at("2035-03-06T16:00:00Z"), end: at("2035-03-06T17:00:00Z") },
      { start: at("2035-03-16T16:00:00Z"), end: at("2035-03-16T17:00:00Z") },
    ];
    const { picks, gaps } = repeated(3, { schedule });
    expect(picks).toEqual([base]);
    expect(gaps.map(({ instead }) => instead && shown([instead])[0])).toEqual(["03-16 17:00", null]);
  });

  it("leaves out an hour that the clocks skip", () => {
    const early = { start: at("2035-03-18T01:30:00Z"), duration: 30 }; // A Sunday, 02:30 in Paris.
    const schedule = [18, 25].map((day) => ({
      start: at(`2035-03-${day}T00:00:00Z`),
      end: at(`2035-03-${day}T04:00:00Z`),
    }));
    const { picks, gaps } = everyWeek(early, 2, {
      tutorZone: PARIS,
      schedule,
      taken: [],
      picks: [early],
      now: at("2035-01-01T00:00:00Z"),
    });
    expect(picks).toEqual([early]);
    expect(shown([gaps[0]!.wanted, gaps[0]!.instead!])).toEqual(["03-25 03:30", "03-25 03:30"]);
  });

  it("takes nothing twice, overlaps nothing that is chosen, and ends at the most lessons", () => {
    const again = repeated(3, { picks: repeated(3).picks });
    expect(again).toEqual(repeated(3));
    const half = { start: at("2035-03-13T16:30:00Z"), duration: 60 };
    expect(repeated(2, { picks: [base, half] }).gaps.map(({ wanted }) => shown([wanted])[0])).toEqual(["03-13 17:00"]);
    const others = Array.from({ length: MOST_PICKS - 2 }, (_, number) => ({
      start: at("2035-06-01T08:00:00Z") + number * 24 * HOUR,
      duration: 60,
    }));
    expect(repeated(12, { picks: [base, ...others] }).picks).toHaveLength(MOST_PICKS);
  });
});
