import { expect, it } from "vitest";
import { calendarFile } from "../src/ics";

const LESSON = { id: "a1", start: Date.parse("2035-03-05T08:00:00Z"), minutes: 90, title: "Deep; learning, \\1", description: "Line\nline" };

it("a lesson is an event with UTC times and escaped text", () => {
  expect(calendarFile([LESSON], Date.parse("2035-01-01T00:00:00.5Z"))).toBe(
    [
      "BEGIN:VCALENDAR",
      "VERSION:2.0",
      "PRODID:-//Creneau//Lessons//EN",
      "BEGIN:VEVENT",
      "UID:a1@creneau",
      "DTSTAMP:20350101T000000Z",
      "DTSTART:20350305T080000Z",
      "DTEND:20350305T093000Z",
      "SUMMARY:Deep\\; learning\\, \\\\1",
      "DESCRIPTION:Line\\nline",
      "END:VEVENT",
      "END:VCALENDAR",
      "",
    ].join("\r\n"),
  );
});

it("long lines are folded at 75 octets, between characters", () => {
  const title = "é".repeat(80);
  const lines = calendarFile([{ ...LESSON, title }], 0).split("\r\n");
  expect(Math.max(...lines.map((line) => new TextEncoder().encode(line).length))).toBeLessThanOrEqual(75);
  expect(lines.join("\r\n").replaceAll("\r\n ", "")).toContain(`SUMMARY:${title}`);
});

it("control characters are left out, and any line break is one", () => {
  const title = "Maths\rDTSTART:20200101T000000Z\0\x07";
  const lines = calendarFile([{ ...LESSON, title }], 0).split("\r\n");
  expect(lines).toContain("SUMMARY:Maths\\nDTSTART:20200101T000000Z");
  expect(lines.filter((line) => line.startsWith("DTSTART"))).toEqual(["DTSTART:20350305T080000Z"]);
  expect(lines.join("").match(/[\0-\x1f]/g)).toBeNull();
});
