/** Lessons as a calendar file (iCalendar, RFC 5545): times in UTC, lines of at most 75 octets. */

export interface CalendarEntry {
  id: string;
  start: number;
  minutes: number;
  title: string;
  description: string;
}

export function calendarFile(entries: CalendarEntry[], now: number): string {
  const lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Creneau//Lessons//EN"];
  for (const entry of entries) {
    lines.push(
      "BEGIN:VEVENT",
      `UID:${entry.id}@creneau`,
      `DTSTAMP:${stamp(now)}`,
      `DTSTART:${stamp(entry.start)}`,
      `DTEND:${stamp(entry.start + entry.minutes * 60_000)}`,
      `SUMMARY:${escaped(entry.title)}`,
      `DESCRIPTION:${escaped(entry.description)}`,
      "END:VEVENT",
    );
  }
  return [...lines, "END:VCALENDAR", ""].map(folded).join("\r\n");
}

function stamp(instant: number): string {
  return new Date(instant).toISOString().replace(/[-:]|\.\d{3}/g, "");
}

function escaped(text: string): string {
  const lines = text.replace(/\r\n?/g, "\n").replace(/[\0-\x08\x0b-\x1f\x7f]/g, "");
  return lines.replace(/[\\;,]/g, "\\$&").replaceAll("\n", "\\n");
}

function folded(line: string): string {
  const octets = new TextEncoder();
  let [text, room] = ["", 75];
  for (const character of line) {
    const size = octets.encode(character).length;
    if (size > room) {
      text += "\r\n ";
      room = 74; // The space counts.
    }
    text += character;
    room -= size;
  }
  return text;
}
