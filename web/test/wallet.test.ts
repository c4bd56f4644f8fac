import { describe, expect, it } from "vitest";
import { assertShown, assertShownAct, type Shown } from "../src/wallet";

const EDU = 10n ** 18n;
const STUDENT = "0x00000000000000000000000000000000000000aA";
const ESCROW = "0x00000000000000000000000000000000000000Ee";
const TOKEN = "0x0000000000000000000000000000000000000070";

const SHOWN: Shown = {
  chainId: 31337,
  escrow: ESCROW,
  token: TOKEN,
  student: STUDENT.toLowerCase(),
  hourlyRateWei: 35n * EDU,
  totalWei: 70n * EDU,
  minLessons: 1,
  slots: [
    { start: 2_057_644_800_000, duration: 60 },
    { start: 2_057_648_400_000, duration: 60 },
  ],
};

const members = (text: string) => text.split(", ").map((one) => ({ type: one.split(" ")[0]!, name: one.split(" ")[1]! }));

/** What an honest service prepares. */
function prepared() {
  return {
    batchId: "0x",
    expiresAt: "",
    totalAmount: 70,
    totalAmountWei: String(70n * EDU),
    count: 2,
    failedCount: 0,
    failures: null,
    order: {
      types: {
        Order: members(
          "address student, address tutor, bytes32 listing, uint96 hourlyRate, uint8 minLessons, uint40 deadline, bytes32 salt, Slot[] slots",
        ),
        Slot: members("uint40 start, uint16 duration"),
      },
      primaryType: "Order" as const,
      domain: { name: "Creneau", version: "1", chainId: 31337, verifyingContract: ESCROW } as Record<string, unknown>,
      message: {
        student: STUDENT,
        hourlyRate: String(35n * EDU),
        minLessons: 1,
        slots: [
          { start: 2_057_644_800, duration: 60 },
          { start: 2_057_648_400, duration: 60 },
        ],
      } as Record<string, unknown>,
    },
    permit: {
      types: { Permit: members("address owner, address spender, uint256 value, uint256 nonce, uint256 deadline") },
      primaryType: "Permit" as const,
      domain: { name: "EDU", version: "1", chainId: 31337, verifyingContract: TOKEN } as Record<string, unknown>,
      message: { owner: STUDENT, spender: ESCROW, value: String(70n * EDU) } as Record<string, unknown>,
    },
  };
}

describe("what is prepared", () => {
  it("is signed when it says what the page shows, with a permit or without", () => {
    expect(() => assertShown(prepared(), SHOWN)).not.toThrow();
    expect(() => assertShown({ ...prepared(), permit: null }, SHOWN)).not.toThrow();
  });

  it.each<[string, (data: ReturnType<typeof prepared>) => void]>([
    ["another rate", ({ order }) => (order.message.hourlyRate = String(36n * EDU))],
    ["another student", ({ order }) => (order.message.student = ESCROW)],
    ["all or nothing", ({ order }) => (order.message.minLessons = 2)],
    ["a lesson less", ({ order }) => (order.message.slots as unknown[]).pop()],
    ["a lesson at another time", ({ order }) => ((order.message.slots as { start: number }[])[1]!.start += 900)],
    ["a longer lesson", ({ order }) => ((order.message.slots as { duration: number }[])[1]!.duration = 90)],
    ["another chain", ({ order }) => (order.domain.chainId = 1)],
    ["another contract", ({ order }) => (order.domain.verifyingContract = TOKEN)],
    ["another domain", ({ order }) => (order.domain.name = "Other")],
    ["another type of the same name", ({ order }) => order.types.Order.reverse()],
    ["a permit for more", ({ permit }) => (permit.message.value = String(71n * EDU))],
    ["a permit for somebody else", ({ permit }) => (permit.message.spender = STUDENT)],
    ["a permit of another token", ({ permit }) => (permit.domain.verifyingContract = ESCROW)],
    ["a permit that is none", ({ permit }) => ((permit as { primaryType: string }).primaryType = "Transfer")],
  ])("is not signed with %s", (_, forge) => {
    const data = prepared();
    forge(data);
    expect(() => assertShown(data, SHOWN)).toThrow("mismatch");
  });
});

describe("an act", () => {
  const BATCH = `0x${"ab".repeat(31)}00`;
  const shown = { chainId: 31337, escrow: ESCROW, act: "cancel", batchId: BATCH, places: [0, 2, 39] };
  const given = () => ({
    types: { Cancel: members("bytes32 batch, uint40 lessons, uint40 deadline") },
    primaryType: "Cancel",
    domain: { name: "Creneau", version: "1", chainId: 31337, verifyingContract: ESCROW } as Record<string, unknown>,
    message: { batch: BATCH, lessons: String(5n + (1n << 39n)), deadline: 9 } as Record<string, unknown>,
  });

  it("is signed when it is about the lessons that the page shows", () => {
    expect(() => assertShownAct(given(), shown)).not.toThrow();
  });

  it.each<[string, (data: ReturnType<typeof given>) => void]>([
    ["a lesson more", ({ message }) => (message.lessons = String(7n + (1n << 39n)))],
    ["a lesson less", ({ message }) => (message.lessons = "5")],
    ["another batch", ({ message }) => (message.batch = BATCH.replace("ab", "ac"))],
    ["another act", (data) => (data.primaryType = "Complete")],
    ["another chain", ({ domain }) => (domain.chainId = 1)],
    ["another contract", ({ domain }) => (domain.verifyingContract = TOKEN)],
  ])("is not signed with %s", (_, forge) => {
    const data = given();
    forge(data);
    expect(() => assertShownAct(data, shown)).toThrow("mismatch");
  });
});
