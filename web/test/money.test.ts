import { expect, it } from "vitest";
import { formatEdu, lessonWei, toDecimal, toWei } from "../src/money";

const EDU = 10n ** 18n;

it("a lesson costs rate times minutes, rounded down to a base unit", () => {
  expect(lessonWei(35n * EDU, 60)).toBe(35n * EDU);
  expect(lessonWei(35n * EDU, 90)).toBe(toWei("52.5"));
  expect(lessonWei(1n, 45)).toBe(0n);
  expect(lessonWei(100n, 20)).toBe(33n);
});

it("base units and decimal text are the same amount", () => {
  for (const text of ["0", "35", "17.5", "0.000000000000000001", "79228162514.264337593543950335"]) {
    expect(toDecimal(toWei(text))).toBe(text);
  }
  expect(toDecimal(-toWei("17.5"))).toBe("-17.5");
});

it("what is no amount is refused", () => {
  for (const text of ["", "1e3", "1,5", "-1", ".5", "0.0000000000000000001", "35 EDU"]) {
    expect(() => toWei(text)).toThrow(RangeError);
  }
});

it("amounts that no binary float holds are shown exactly, as the language writes them", () => {
  expect(formatEdu(toWei("1234.1"), "en")).toBe("1,234.1\u00a0EDU");
  expect(formatEdu(toWei("9007199254740993.1"), "en")).toBe("9,007,199,254,740,993.1\u00a0EDU");
  expect(formatEdu(toWei("1234.5"), "fr")).toBe("1\u202f234,5\u00a0EDU");
});
