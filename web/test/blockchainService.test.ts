import { describe, expect, it, vi } from "vitest";
import { BlockchainService, isRefusal, isUnsure, type KeyStore, type Options } from "../src/blockchainService";

// The seed's request: two lessons of the demonstration's tutor, as its booking page builds them.
const DATA = {
  tutorId: "d085706f-9304-4011-a28a-08fd871afe4f",
  annonceId: "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55",
  bookings: [
    { date: "2035-03-05", time: "09:00", duration: 60, amount: 35 },
    { date: "2035-03-05", time: "10:00", duration: 60, amount: 35 },
  ],
  studentNotes: "Réseaux de neurones",
};
const BODY =
  '{"tutorId":"d085706f-9304-4011-a28a-08fd871afe4f","annonceId":"3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55",' +
  '"bookings":[{"date":"2035-03-05","time":"09:00","duration":60,"amount":35},' +
  '{"date":"2035-03-05","time":"10:00","duration":60,"amount":35}],"studentNotes":"Réseaux de neurones"}';
const ID = `0x${"ab".repeat(31)}00`;

interface Sent {
  method: string;
  url: string;
  headers: Record<string, string>;
  body: string | undefined;
}

type Reply = [status: number, body: unknown, headers?: Record<string, string>] | "nothing";

function batch(state: string, count = 2) {
  const bookings = Array.from({ length: count }, (_, place) => ({ id: String(place) }));
  return { success: count > 0, message: "", data: { batchId: ID, state, bookings, count, failedCount: 0, failures: null } };
}

function store(): KeyStore & { map: Map<string, string> } {
  const map = new Map<string, string>();
  return { map, getItem: (name) => map.get(name) ?? null, setItem: (name, value) => void map.set(name, value) };
}

/** A service whose server gives these replies, one after the other, and what it was sent. */
function served(replies: Reply[], options: Options = {}) {
  const sent: Sent[] = [];
  const answer = async (url: RequestInfo | URL, init: RequestInit = {}) => {
    init.signal?.throwIfAborted();
    sent.push({
      method: init.method!,
      url: String(url),
      headers: init.headers as Record<string, string>,
      body: init.body as string | undefined,
    });
    const reply = replies.shift()!;
    if (reply === "nothing") throw new TypeError("Failed to fetch");
    const [status, body, headers = {}] = reply;
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
  };
  const service = new BlockchainService({ storage: store(), fetch: answer as typeof fetch, ...options });
  return { service, sent };
}

/** Runs what waits, without waiting. */
async function hurried<T>(work: () => Promise<T>): Promise<T> {
  vi.useFakeTimers();
  try {
    const result = work();
    result.catch(() => {});
    await vi.runAllTimersAsync();
    return await result;
  } finally {
    vi.useRealTimers();
  }
}

const KEYED = (sent: Sent[]) => sent.map(({ headers }) => headers["Idempotency-Key"]);

describe("a batch of lessons", () => {
  it("is one request, the seed's byte for byte", async () => {
    const { service, sent } = served([[200, batch("mined")]], { token: () => "a.b.c" });
    const answer = await service.createBatchBookings(DATA);
    expect(answer).toEqual(batch("mined"));
    expect(sent).toEqual([
      {
        method: "POST",
        url: "/api/blockchain/booking/batch",
        headers: {
          Accept: "application/json",
          "Content-Type": "application/json",
          Authorization: "Bearer a.b.c",
          "Idempotency-Key": expect.stringMatching(/^[0-9a-f-]{36}$/),
        },
        body: BODY,
      },
    ]);
  });

  it("is waited for when it is on its way", async () => {
    const { service, sent } = served([[202, batch("accepted")], [200, batch("submitted")], [200, batch("mined")]]);
    const answer = await hurried(() => service.createBatchBookings(DATA));
    expect(answer).toEqual(batch("mined"));
    expect(sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "POST /api/blockchain/booking/batch",
      `GET /api/blockchain/booking/batch/${ID}`,
      `GET /api/blockchain/booking/batch/${ID}`,
    ]);
  });

  it("is not waited for when the caller wants the id at once", async () => {
    const { service, sent } = served([[202, batch("accepted")]]);
    expect(await service.createBatchBookings(DATA, { wait: false })).toEqual(batch("accepted"));
    expect(sent[0]!.headers.Prefer).toBe("respond-async");
  });

  it("is sent again with its key when no answer comes, and after a 503", async () => {
    const { service, sent } = served(["nothing", [503, { code: "node_unavailable", message: "?" }], [200, batch("mined")]]);
    expect(await hurried(() => service.createBatchBookings(DATA))).toEqual(batch("mined"));
    expect(new Set(KEYED(sent)).size).toBe(1);
    expect(new Set(sent.map(({ body }) => body))).toEqual(new Set([BODY]));
  });

  it("of one lesson is the earlier request", async () => {
    const { service, sent } = served([[200, batch("mined", 1)]]);
    await service.createBooking({ tutorId: "t", annonceId: "a", date: "2035-03-05", time: "09:00", duration: 60, amount: 35 });
    expect(sent[0]!.url).toBe("/api/blockchain/booking");
    expect(sent[0]!.body).toBe(
      '{"tutorId":"t","annonceId":"a","date":"2035-03-05","time":"09:00","duration":60,"amount":35}',
    );
  });
});

describe("the idempotency key", () => {
  it("is the same after a reload that came before the answer", async () => {
    const storage = store();
    const before = served(["nothing"], { storage, retries: 0 });
    const after = served([[200, batch("mined")]], { storage });
    await before.service.createBatchBookings(DATA);
    await after.service.createBatchBookings(DATA);
    expect(KEYED(after.sent)).toEqual(KEYED(before.sent));
  });

  it("is another one for other lessons, and for the same ones once the first outcome is known", async () => {
    const { service, sent } = served([[200, batch("mined")], [200, batch("mined")], [409, { code: "taken" }], [200, batch("mined")]]);
    await service.createBatchBookings(DATA);
    await service.createBatchBookings({ ...DATA, studentNotes: "" });
    await service.createBatchBookings(DATA);
    await service.createBatchBookings(DATA);
    expect(new Set(KEYED(sent)).size).toBe(4);
  });

  it("is kept while a batch is on its way, and forgotten when it has settled", async () => {
    const { service, sent } = served([[202, batch("accepted")], [202, batch("accepted")], [200, batch("failed", 0)], [202, batch("accepted")]]);
    await service.createBatchBookings(DATA, { wait: false });
    await service.createBatchBookings(DATA, { wait: false });
    await service.getBatch(ID);
    await service.createBatchBookings(DATA, { wait: false });
    const [first, second, , third] = KEYED(sent);
    expect(second).toBe(first);
    expect(third).not.toBe(first);
  });

  it("can be the caller's", async () => {
    const { service, sent } = served([[200, batch("mined")]]);
    await service.createBatchBookings(DATA, { idempotencyKey: "mine" });
    expect(KEYED(sent)).toEqual(["mine"]);
  });

  it("is none of ours when the storage holds something else", async () => {
    const storage = store();
    storage.setItem("creneau.intents", "not JSON");
    const { service, sent } = served([[200, batch("mined")]], { storage });
    await service.createBatchBookings(DATA);
    expect(KEYED(sent)[0]).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("a refusal", () => {
  it("carries the server's reason, code, failures and what it found", async () => {
    const failures = [{ index: 2, slot: {}, code: "taken", error: "The lesson of 2035-03-05 at 10:00 is already taken." }];
    const { service } = served([
      [409, { code: "taken", message: "Nothing was booked. …", failures, neededWei: "70", availableWei: "1" }],
    ]);
    const answer = await service.createBatchBookings(DATA);
    expect(answer).toEqual({
      success: false,
      status: 409,
      code: "taken",
      message: "Nothing was booked. …",
      failures,
      neededWei: "70",
      availableWei: "1",
    });
    expect(isRefusal(answer) && !isUnsure(answer)).toBe(true);
  });

  it("is unsure when nothing, a proxy's page or a server error came, and then only", async () => {
    const { service } = served(["nothing", [200, "<html>"], [502, "<html>"], [429, { code: "too_many_requests" }, { "Retry-After": "7" }], [404, { code: "batch_not_found" }]]);
    const answers = [];
    for (let ask = 0; ask < 5; ask += 1) answers.push(await service.getBatch(ID));
    expect(answers.map(isUnsure)).toEqual([true, true, true, true, false]);
    expect(answers[3]).toMatchObject({ code: "too_many_requests", retryAfter: 7 });
  });

  it("is thrown only when the caller aborts", async () => {
    const aborted = AbortSignal.abort(new Error("left the page"));
    const { service, sent } = served([]);
    await expect(service.createBatchBookings(DATA, { signal: aborted })).rejects.toThrow("left the page");
    expect(sent).toEqual([]);
  });
});

describe("waiting for a batch", () => {
  it("goes on through a restart of the server, and tells of it", async () => {
    const { service } = served(["nothing", "nothing", [200, batch("submitted")], [200, batch("mined")]]);
    const heard: boolean[] = [];
    const answer = await hurried(() => service.waitForBatch(ID, { onAnswer: (one) => heard.push(isUnsure(one)) }));
    expect(answer).toEqual(batch("mined"));
    expect(heard).toEqual([true, true, false, false]);
  });

  it("goes on to what can't be undone, if that is wanted", async () => {
    const { service } = served([[200, batch("mined")], [200, batch("final")]]);
    expect(await hurried(() => service.waitForBatch(ID, { until: "final" }))).toEqual(batch("final"));
  });

  it("ends with a clear no", async () => {
    const { service } = served([[404, { code: "batch_not_found", message: "There is no such batch." }]]);
    expect(await service.waitForBatch(ID)).toMatchObject({ status: 404, code: "batch_not_found" });
  });

  it("ends when the caller aborts", async () => {
    const leaving = new AbortController();
    const { service } = served([[200, batch("submitted")]]);
    const waiting = service.waitForBatch(ID, { signal: leaving.signal, onAnswer: () => leaving.abort(new Error("left")) });
    await expect(waiting).rejects.toThrow("left");
  });
});

describe("lessons", () => {
  it("are listed by page, status and time", async () => {
    const { service, sent } = served([[200, { success: true, data: [], nextCursor: null }]]);
    await service.getBookingsOfUser("a/b", { status: ["PENDING", "CONFIRMED"], from: "2035-03-05T00:00:00Z", cursor: "c" });
    expect(sent[0]!.url).toBe(
      "/api/blockchain/booking/user/a%2Fb?status=PENDING&status=CONFIRMED&from=2035-03-05T00%3A00%3A00Z&cursor=c",
    );
  });

  it("are acted on by the routes of the acts, with a wallet's signature where there is one", async () => {
    const { service, sent } = served([[200, {}], [200, {}], [200, {}], [200, {}], [200, {}]]);
    await service.act("cancel", "7");
    await service.act("dispute", "7", { signature: "0x12", deadline: 9 });
    await service.prepareAct("complete", "7");
    await service.actOnBatch("confirm", "0xab", ["7", "8"], { signature: "0x12", deadline: 9 });
    await service.prepareActOnBatch("confirm", "0xab", ["7", "8"]);
    expect(sent.map(({ method, url, body }) => [method, url, body])).toEqual([
      ["PATCH", "/api/blockchain/booking/7/cancel", "{}"],
      ["POST", "/api/blockchain/booking/7/dispute", '{"signature":"0x12","deadline":9}'],
      ["POST", "/api/blockchain/booking/7/complete/prepare", "{}"],
      [
        "PATCH",
        "/api/blockchain/booking/batch/0xab/confirm",
        '{"lessons":["7","8"],"signature":"0x12","deadline":9}',
      ],
      ["POST", "/api/blockchain/booking/batch/0xab/confirm/prepare", '{"lessons":["7","8"]}'],
    ]);
  });
});
