/**
 * The client of the booking service: one file without dependencies, for any frontend.
 *
 *     import { blockchainService, isRefusal } from "./blockchainService";
 *     const answer = await blockchainService.createBatchBookings({ tutorId, annonceId, bookings, studentNotes });
 *
 * Nothing is thrown for what a server or a network can do: a refusal is an answer with `success: false`, a
 * `message` for people and a `code` for programs. Only an abort by the caller's signal is thrown, as `fetch` does.
 *
 * Each intent to book has an idempotency key, kept in the browser's storage until its outcome is known. So a
 * retry, a second click, another tab or a reload can only ever reach the same batch.
 *
 * Amounts: fields that end in `Wei` are exact decimal text. `amount` and `totalAmount` are JSON numbers, for
 * display only.
 */

import type { components } from "./api/schema";

type Schemas = components["schemas"];

export type AccountAnswer = Schemas["AccountAnswer"];
export type AnnonceAnswer = Schemas["AnnonceAnswer"];
export type Annonce = AnnonceAnswer["data"];
export type BatchAnswer = Schemas["BatchAnswer"];
export type BatchData = Schemas["BatchData"];
export type BookingData = Schemas["BookingData"];
export type BookingStatus = BookingData["status"];
export type BookingsAnswer = Schemas["BookingsAnswer"];
export type CalendarAnswer = Schemas["CalendarAnswer"];
export type DoneAnswer = Schemas["DoneAnswer"];
export type Failure = Schemas["Failure"];
export type FieldError = Schemas["FieldError"];
export type PreparedActAnswer = Schemas["PreparedActAnswer"];
export type PreparedBatchAnswer = Schemas["PreparedAnswer"];
export type StatsAnswer = Schemas["StatsAnswer"];

/** A lesson to book: day and clock time in the request's time zone, price in EDU, minutes. */
export interface SlotRequest {
  date: string;
  time: string;
  duration: number;
  amount: number | string;
}

interface Terms {
  tutorId: string;
  annonceId: string;
  description?: string;
  studentNotes?: string;
  /** IANA; else the annonce's. */
  timeZone?: string;
}

export interface CreateBatchBookingData extends Terms {
  bookings: SlotRequest[];
  /** Whether to book the others when some lessons can't be booked. The service's default is yes. */
  allowPartial?: boolean;
  /** Instead of `allowPartial`: how many lessons there have to be, at least. */
  minLessons?: number;
}

export interface CreateBookingData extends Terms, SlotRequest {}

/** Why there is no other answer. `status` is 0, and `code` "no_answer", when none came or none that can be read. */
export interface Refusal {
  success: false;
  message: string;
  code: string;
  status: number;
  errors?: FieldError[] | null;
  failures?: Failure[] | null;
  batchId?: string | null;
  neededWei?: string;
  availableWei?: string;
  /** Seconds, where the service names them. */
  retryAfter?: number;
}

export type Result<T> = T | Refusal;

export function isRefusal(answer: object): answer is Refusal {
  return "code" in answer;
}

/** Whether a refusal leaves open what became of the request. Asking again, with the same key, tells. */
export function isUnsure(answer: object): boolean {
  return isRefusal(answer) && (answer.status === 0 || answer.status === 429 || answer.status >= 500);
}

/** The batch of a lesson, and the lesson's place in it: the last byte of its id on the chain. */
export function placeOf({ blockchainTransactionId: id }: BookingData): { batchId: string; place: number } {
  return { batchId: `${id.slice(0, -2)}00`, place: parseInt(id.slice(-2), 16) };
}

/** Whether a batch's outcome is known: booked, or never going to be. */
export function isSettled(batch: BatchData): boolean {
  return !["accepted", "signed", "submitted"].includes(batch.state);
}

/** Whether nothing about a batch can change any more. */
export function isFinal(batch: BatchData): boolean {
  return isSettled(batch) && batch.state !== "mined";
}

export type Act = "confirm" | "cancel" | "complete" | "dispute";

/** EIP-712, as `eth_signTypedData_v4` takes it. What is in it is for the signer to check. */
export interface TypedData {
  domain: Record<string, unknown>;
  primaryType: string;
  types: Record<string, unknown>;
  message: Record<string, unknown>;
}

/** A wallet's signature of what `prepareAct` gave, and the `deadline` in it. */
export interface SignedAct {
  signature: string;
  deadline: number;
}

export interface ListQuery {
  status?: BookingStatus[];
  from?: string;
  to?: string;
  order?: "asc" | "desc";
  limit?: number;
  cursor?: string;
}

interface Call {
  signal?: AbortSignal;
}

export interface BookCall extends Call {
  /** Else one is made, and kept until the outcome is known. */
  idempotencyKey?: string;
  /** false: answers as soon as the batch is accepted; `waitForBatch` tells the rest. */
  wait?: boolean;
  /** Instead of the service's own. Infinity: until there is a clear answer. */
  retries?: number;
  /** Told of each try without a clear answer. */
  onUnsure?: (refusal: Refusal) => void;
}

export interface WaitCall extends Call {
  until?: "settled" | "final";
  intervalMs?: number;
  /** Every answer, and every failure to get one, which ends nothing. */
  onAnswer?: (answer: Result<BatchAnswer>) => void;
}

/** The part of `Storage` that is used. */
export type KeyStore = Pick<Storage, "getItem" | "setItem">;

export interface Options {
  /** Before `/api/blockchain`; else the page's own origin. */
  baseUrl?: string;
  /** The bearer token of whoever is signed in. */
  token?: () => string | null | undefined;
  storage?: KeyStore;
  fetch?: typeof fetch;
  /** How long one request may take. The service itself answers within about 30 seconds. */
  timeoutMs?: number;
  /** How often a booking is sent again, with its key, when there was no clear answer. */
  retries?: number;
}

interface Request extends Call {
  body?: string;
  headers?: Record<string, string>;
}

const PATH = "/api/blockchain";
const BATCH = "/booking/batch";
const INTENTS = "creneau.intents";
/** An order is valid for minutes; long after that a forgotten intent can only be done or void. */
const INTENT_MS = 24 * 3600 * 1000;

export class BlockchainService {
  private readonly options: Required<Options>;
  private readonly intents: Intents;

  constructor(options: Options = {}) {
    this.options = {
      baseUrl: "",
      token: () => null,
      storage: storageOf("localStorage"),
      fetch: (input, init) => fetch(input, init),
      timeoutMs: 60_000,
      retries: 3,
      ...options,
    };
    this.intents = new Intents(this.options.storage);
  }

  // --- Booking ---

  /** Books every slot of the request in one transaction, and answers when it is in a block. */
  async createBatchBookings(data: CreateBatchBookingData, call: BookCall = {}): Promise<Result<BatchAnswer>> {
    return this.book(BATCH, data, call);
  }

  /** A batch of one. */
  async createBooking(data: CreateBookingData, call: BookCall = {}): Promise<Result<BatchAnswer>> {
    return this.book("/booking", data, call);
  }

  /** Checks everything and gives a wallet what it has to sign. Sends nothing to the chain. */
  async prepareBatch(data: CreateBatchBookingData, call: BookCall = {}): Promise<Result<PreparedBatchAnswer>> {
    const body = JSON.stringify(data);
    const headers = { "Idempotency-Key": call.idempotencyKey ?? this.intents.key(BATCH, body) };
    const prepare = () =>
      this.request<PreparedBatchAnswer>("POST", `${BATCH}/prepare`, { body, headers, signal: call.signal });
    const answer = await this.again(prepare, call);
    if (!isRefusal(answer)) this.intents.accepted(BATCH, body, answer.data.batchId);
    return answer;
  }

  /** Sends a prepared batch with its signatures. */
  async submitBatch(
    batchId: string,
    signatures: { signature: string; permitSignature?: string },
    call: Omit<BookCall, "idempotencyKey"> = {},
  ): Promise<Result<BatchAnswer>> {
    return this.send(`${BATCH}/${batchId}/submit`, JSON.stringify(signatures), {}, call);
  }

  /** What has become of a batch so far. */
  async getBatch(batchId: string, call: Call = {}): Promise<Result<BatchAnswer>> {
    const answer = await this.request<BatchAnswer>("GET", `${BATCH}/${batchId}`, call);
    if (!isRefusal(answer) && isSettled(answer.data)) this.intents.settle(batchId);
    return answer;
  }

  /** Asks until the outcome is known, or final. What keeps an answer away keeps it asking; a clear no ends it. */
  async waitForBatch(batchId: string, call: WaitCall = {}): Promise<Result<BatchAnswer>> {
    const { until = "settled", intervalMs = 1000, onAnswer, signal } = call;
    for (let troubles = 0; ; ) {
      const answer = await this.getBatch(batchId, { signal });
      onAnswer?.(answer);
      if (isUnsure(answer)) troubles += 1;
      else if (isRefusal(answer) || (until === "final" ? isFinal : isSettled)(answer.data)) return answer;
      else troubles = 0;
      await pause(intervalMs * Math.min(2 ** troubles, 8), signal);
    }
  }

  // --- Lessons ---

  async getBookingsOfUser(userId: string, query: ListQuery = {}, call: Call = {}): Promise<Result<BookingsAnswer>> {
    return this.request("GET", `/booking/user/${encodeURIComponent(userId)}${search(query)}`, call);
  }

  async getBookingsOfTutor(tutorId: string, query: ListQuery = {}, call: Call = {}): Promise<Result<BookingsAnswer>> {
    return this.request("GET", `/booking/tutor/${encodeURIComponent(tutorId)}${search(query)}`, call);
  }

  async getStats(userId: string, call: Call = {}): Promise<Result<StatsAnswer>> {
    return this.request("GET", `/booking/${encodeURIComponent(userId)}/stats`, call);
  }

  /** Confirms, cancels, completes or disputes a lesson. Doing it again changes nothing more. */
  async act(act: Act, bookingId: string, signed?: SignedAct, call: Call = {}): Promise<Result<DoneAnswer>> {
    return this.change(act, `/booking/${bookingId}`, { ...signed }, call);
  }

  /** The same with several lessons of a batch, by their ids: with all of them, in one transaction, or with none. */
  async actOnBatch(
    act: Act,
    batchId: string,
    lessons: string[],
    signed?: SignedAct,
    call: Call = {},
  ): Promise<Result<DoneAnswer>> {
    return this.change(act, `${BATCH}/${batchId}`, { lessons, ...signed }, call);
  }

  /** What a wallet has to sign for an act. */
  async prepareAct(act: Act, bookingId: string, call: Call = {}): Promise<Result<PreparedActAnswer>> {
    return this.request("POST", `/booking/${bookingId}/${act}/prepare`, { body: "{}", ...call });
  }

  /** What a wallet has to sign for an act on several lessons of a batch. */
  async prepareActOnBatch(
    act: Act,
    batchId: string,
    lessons: string[],
    call: Call = {},
  ): Promise<Result<PreparedActAnswer>> {
    const body = JSON.stringify({ lessons });
    return this.request("POST", `${BATCH}/${batchId}/${act}/prepare`, { body, ...call });
  }

  // --- Who, and what can be booked ---

  /** The person who is signed in, and what they can spend. */
  async getAccount(call: Call = {}): Promise<Result<AccountAnswer>> {
    return this.request("GET", "/account", call);
  }

  async getAnnonce(annonceId: string, call: Call = {}): Promise<Result<AnnonceAnswer>> {
    return this.request("GET", `/annonce/${encodeURIComponent(annonceId)}`, call);
  }

  /** When the tutor is taken, between two moments (RFC 3339). */
  async getCalendar(tutorId: string, from: string, to: string, call: Call = {}): Promise<Result<CalendarAnswer>> {
    return this.request("GET", `/tutor/${encodeURIComponent(tutorId)}/calendar${search({ from, to })}`, call);
  }

  // --- How ---

  private async change(act: Act, path: string, data: object, call: Call): Promise<Result<DoneAnswer>> {
    const method = act === "dispute" ? "POST" : "PATCH";
    const body = JSON.stringify(data);
    return this.again(() => this.request(method, `${path}/${act}`, { body, ...call }), call);
  }

  private async book(path: string, data: object, call: BookCall): Promise<Result<BatchAnswer>> {
    const body = JSON.stringify(data);
    const key = call.idempotencyKey ?? this.intents.key(path, body);
    const answer = await this.send(path, body, { "Idempotency-Key": key }, call);
    if (isRefusal(answer) ? !isUnsure(answer) : isSettled(answer.data)) this.intents.forget(path, body);
    else if (!isRefusal(answer)) this.intents.accepted(path, body, answer.data.batchId);
    return answer;
  }

  private async send(
    path: string,
    body: string,
    headers: Record<string, string>,
    call: BookCall,
  ): Promise<Result<BatchAnswer>> {
    const { wait = true, signal } = call;
    const all = wait ? headers : { ...headers, Prefer: "respond-async" };
    const post = () => this.request<BatchAnswer>("POST", path, { body, headers: all, signal });
    const answer = await this.again(post, call);
    if (!wait || isRefusal(answer) || isSettled(answer.data)) return answer;
    return this.waitForBatch(answer.data.batchId, { signal });
  }

  /** Sends once more, and again, while there is no clear answer. */
  private async again<T extends object>(
    ask: () => Promise<Result<T>>,
    { retries = this.options.retries, onUnsure, signal }: BookCall,
  ): Promise<Result<T>> {
    for (let tries = 0; ; tries += 1) {
      const answer = await ask();
      if (!isUnsure(answer) || tries >= retries) return answer;
      onUnsure?.(answer as Refusal);
      await pause(1000 * ((answer as Refusal).retryAfter ?? Math.min(2 ** tries, 8)), signal);
    }
  }

  private async request<T>(method: string, path: string, { body, headers, signal }: Request): Promise<Result<T>> {
    signal?.throwIfAborted();
    const token = this.options.token();
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), this.options.timeoutMs);
    const aborted = () => limit.abort(); // Older browsers have no AbortSignal.any.
    signal?.addEventListener("abort", aborted);
    let response: Response;
    let answer: unknown;
    try {
      response = await this.options.fetch(`${this.options.baseUrl}${PATH}${path}`, {
        method,
        headers: {
          Accept: "application/json",
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
          ...headers,
        },
        body,
        signal: limit.signal,
      });
      answer = await response.json();
    } catch {
      signal?.throwIfAborted();
      return { success: false, status: 0, code: "no_answer", message: "The booking service does not answer." };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    }
    if (response.ok) return answer as T;
    return refusal(response, answer);
  }
}

/** The idempotency keys of intents whose outcome is not known yet: what was asked, and by which key. */
class Intents {
  constructor(private readonly storage: KeyStore) {}

  /** The intent's key; a new one for a new intent. */
  key(path: string, body: string): string {
    const all = this.read();
    const intent = (all[`${path} ${body}`] ??= { key: uuid(), at: Date.now() });
    this.write(all);
    return intent.key;
  }

  accepted(path: string, body: string, batchId: string): void {
    const all = this.read();
    const intent = all[`${path} ${body}`];
    if (intent) intent.batchId = batchId;
    this.write(all);
  }

  forget(path: string, body: string): void {
    const all = this.read();
    delete all[`${path} ${body}`];
    this.write(all);
  }

  settle(batchId: string): void {
    const all = this.read();
    const left = Object.entries(all).filter(([, intent]) => intent.batchId !== batchId);
    if (left.length < Object.keys(all).length) this.write(Object.fromEntries(left));
  }

  private read(): Record<string, Intent> {
    let all: Record<string, Intent> = {};
    try {
      all = JSON.parse(this.storage.getItem(INTENTS) ?? "{}");
    } catch {
      return {}; // Somebody else's text: no intent of ours.
    }
    return Object.fromEntries(Object.entries(all).filter(([, { at }]) => Date.now() - at < INTENT_MS));
  }

  private write(all: Record<string, Intent>): void {
    this.storage.setItem(INTENTS, JSON.stringify(all));
  }
}

interface Intent {
  key: string;
  at: number;
  batchId?: string;
}

function refusal(response: Response, answer: unknown): Refusal {
  const problem = (typeof answer === "object" ? answer : null) as Partial<Refusal> | null;
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return {
    ...problem,
    success: false,
    status: response.status,
    code: problem?.code ?? "unknown",
    message: problem?.message ?? `The booking service answered ${response.status}.`,
    ...(Number.isFinite(retryAfter) ? { retryAfter } : {}),
  };
}

function search(query: object): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined) parameters.append(name, String(one));
  }
  return parameters.size ? `?${parameters}` : "";
}

/** Rejects with the signal's reason when it is aborted meanwhile. */
function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** A UUID (version 4). Without TLS a browser has no `crypto.randomUUID`. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A browser's storage; memory where there is none, or where it is blocked. */
export function storageOf(kind: "localStorage" | "sessionStorage"): KeyStore {
  try {
    const storage = globalThis[kind];
    storage.getItem(INTENTS);
    return storage;
  } catch {
    const memory = new Map<string, string>();
    return { getItem: (name) => memory.get(name) ?? null, setItem: (name, value) => void memory.set(name, value) };
  }
}

/** For frontends that have one service for all: `blockchainService.createBatchBookings(...)`. */
export const blockchainService = new BlockchainService();
