import { describe, expect, it } from "vitest";
import { addDays, clock, day, instantsOf, localOf, mondayOf, overlap, sameClock, zoneName } from "../src/time";

const at = Date.parse;

describe("a clock time in a zone", () => {
  it("is one instant, also where the offset is three quarters of an hour", () => {
    expect(instantsOf({ date: "2035-03-05", time: "09:00" }, "Europe/Paris")).toEqual([at("2035-03-05T08:00:00Z")]);
    expect(instantsOf({ date: "2035-03-05", time: "09:00" }, "Asia/Kathmandu")).toEqual([at("2035-03-05T03:15:00Z")]);
  });

  it("is none in the hour that a clock change skips", () => {
    expect(instantsOf({ date: "2027-03-28", time: "02:30" }, "Europe/Paris")).toEqual([]);
    expect(instantsOf({ date: "2027-03-28", time: "03:00" }, "Europe/Paris")).toEqual([at("2027-03-28T01:00:00Z")]);
  });

  it("is two in the hour that comes twice", () => {
    expect(instantsOf({ date: "2027-10-31", time: "02:30" }, "Europe/Paris")).toEqual([
      at("2027-10-31T00:30:00Z"),
      at("2027-10-31T01:30:00Z"),
    ]);
  });

  it("comes back from its instant, on the other side of the date line too", () => {
    expect(localOf(at("2035-03-05T10:30:00Z"), "Pacific/Kiritimati")).toEqual({ date: "2035-03-06", time: "00:30" });
    expect(localOf(at("2035-03-05T10:30:00Z"), "Pacific/Pago_Pago")).toEqual({ date: "2035-03-04", time: "23:30" });
  });
});

describe("days", () => {
  it("are counted by the calendar, over clock changes and leap days", () => {
    expect(addDays("2028-02-28", 2)).toBe("2028-03-01");
    expect(addDays("2027-03-27", 2)).toBe("2027-03-29");
  });

  it("belong to the week of their Monday", () => {
    expect(["2035-03-05", "2035-03-11", "2035-03-12"].map(mondayOf)).toEqual(["2035-03-05", "2035-03-05", "2035-03-12"]);
  });
});

describe("what people read", () => {
  it("is in their language", () => {
    const instant = at("2035-03-05T08:00:00Z");
    expect(day(instant, "Europe/Paris", "fr", instant)).toBe("lundi 5 mars");
    expect(day(instant, "Europe/Paris", "en-GB", at("2034-12-31T12:00:00Z"))).toMatch(/^Monday,? 5 March 2035$/);
    expect(clock(instant, "Europe/Paris", "fr")).toBe("09:00");
    expect(clock(instant, "Europe/Paris", "en-US")).toMatch(/^9:00\sAM$/);
  });

  it("names the zone with its offset on that day", () => {
    expect(zoneName("Europe/Paris", at("2035-03-05T08:00:00Z"), "en")).toBe("Paris (GMT+1)");
    expect(zoneName("Europe/Paris", at("2035-07-05T08:00:00Z"), "en")).toBe("Paris (GMT+2)");
    expect(zoneName("America/New_York", at("2035-03-05T08:00:00Z"), "fr")).toBe("New York (UTC−5)");
    expect(zoneName("UTC", at("2035-03-05T08:00:00Z"), "en")).toMatch(/^UTC \(GMT(\+0)?\)$/);
  });
});

it("two zones show the same clock or not, by the day", () => {
  expect(sameClock("Europe/Paris", "Europe/Berlin", at("2035-03-05T08:00:00Z"))).toBe(true);
  expect(sameClock("Europe/London", "Africa/Abidjan", at("2035-03-05T08:00:00Z"))).toBe(true);
  expect(sameClock("Europe/London", "Africa/Abidjan", at("2035-07-05T08:00:00Z"))).toBe(false);
});

it("lessons that follow one another do not overlap", () => {
  expect(overlap({ start: 0, end: 60 }, { start: 60, end: 120 })).toBe(false);
  expect(overlap({ start: 0, end: 61 }, { start: 60, end: 120 })).toBe(true);
});
