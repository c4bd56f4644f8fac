/** Browser wallets: found by EIP-6963, spoken to by EIP-1193. Loaded only when one is needed. */

import type { PreparedBatchAnswer, TypedData } from "./blockchainService";

/** EIP-1193. */
export interface Provider {
  request(call: { method: string; params?: unknown[] }): Promise<unknown>;
}

/** EIP-6963. */
export interface Wallet {
  info: { uuid: string; name: string; icon: string };
  provider: Provider;
}

export type WalletCode =
  | "none"
  | "refused"
  | "busy"
  | "wrongChain"
  | "unknownChain"
  | "wrongAccount"
  | "gaveUp"
  | "mismatch"
  | "other";

export class WalletProblem extends Error {
  constructor(
    readonly code: WalletCode,
    message: string = code,
  ) {
    super(message);
  }
}

/** So long a first wallet may take to announce itself, and others after it. */
const FIRST_MS = 500;
const OTHERS_MS = 50;

const announced = new Map<string, Wallet>();
globalThis.addEventListener?.("eip6963:announceProvider", (event) => {
  const wallet = (event as CustomEvent<Wallet>).detail;
  announced.set(wallet.info.uuid, wallet);
});

/** The wallets of this browser. EIP-6963: one may announce itself at any time. */
export async function discover(): Promise<Wallet[]> {
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  const old = (window as { ethereum?: Provider }).ethereum;
  for (let waited = 0; !announced.size && !old && waited < FIRST_MS; waited += OTHERS_MS) await pause(OTHERS_MS);
  await pause(OTHERS_MS);
  if (!announced.size && old) return [{ info: { uuid: "old", name: "Ethereum", icon: "" }, provider: old }];
  return [...announced.values()];
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Opens the wallet on the account that pays, on the right chain. */
export async function connect(wallet: Wallet, account: string, chainId: number, signal?: AbortSignal): Promise<void> {
  const accounts = (await ask(wallet, "eth_requestAccounts", [], signal)) as string[];
  if (!accounts.some((one) => same(one, account))) throw new WalletProblem("wrongAccount");
  if (Number(await ask(wallet, "eth_chainId", [], signal)) !== chainId) throw new WalletProblem("wrongChain");
}

export async function switchChain(wallet: Wallet, chainId: number): Promise<void> {
  await ask(wallet, "wallet_switchEthereumChain", [{ chainId: `0x${chainId.toString(16)}` }]);
}

/**
 * The wallet's signature of typed data (EIP-712). A person, or a device, may take as long as the signal lets it.
 * An integrator may put another signer in its place.
 */
export async function signTypedData(
  wallet: Wallet,
  account: string,
  data: TypedData,
  signal?: AbortSignal,
): Promise<string> {
  return (await ask(wallet, "eth_signTypedData_v4", [account, JSON.stringify(data)], signal)) as string;
}

async function ask(wallet: Wallet, method: string, params: unknown[], signal?: AbortSignal): Promise<unknown> {
  let stop = () => {};
  const gaveUp = new Promise<never>((_, reject) => {
    stop = () => reject(new WalletProblem("gaveUp"));
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
  });
  try {
    return await Promise.race([wallet.provider.request({ method, params }), gaveUp]);
  } catch (error) {
    throw problemOf(error);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

interface WalletError {
  code?: number | string;
  message?: string;
  data?: { originalError?: WalletError };
  cause?: WalletError;
}

/** EIP-1193's code for a refusal, WalletConnect's and that of ethers. */
const REFUSALS = [4001, 5000, "ACTION_REJECTED"];

/** The codes of EIP-1193 and EIP-1474 as problems. Some wallets wrap one error in another. */
function problemOf(error: unknown): WalletProblem {
  if (error instanceof WalletProblem) return error;
  const outer = error as WalletError;
  const codes = [outer, outer.data?.originalError, outer.cause].map((one) => one?.code);
  const has = (...some: (number | string)[]) => codes.some((code) => code !== undefined && some.includes(code));
  if (has(...REFUSALS)) return new WalletProblem("refused");
  if (has(4902)) return new WalletProblem("unknownChain");
  if (has(4900, 4901)) return new WalletProblem("wrongChain");
  if (has(-32002)) return new WalletProblem("busy");
  return new WalletProblem("other", outer.message ?? String(error));
}

// --- What is signed is what was shown ---

/** What the page shows, as the order has to say it. */
export interface Shown {
  chainId: number;
  escrow: string;
  token: string;
  student: string;
  hourlyRateWei: bigint;
  totalWei: bigint;
  minLessons: number;
  slots: { start: number; duration: number }[];
}

const ORDER = [
  "address student",
  "address tutor",
  "bytes32 listing",
  "uint96 hourlyRate",
  "uint8 minLessons",
  "uint40 deadline",
  "bytes32 salt",
  "Slot[] slots",
];
const SLOT = ["uint40 start", "uint16 duration"];
const PERMIT = ["address owner", "address spender", "uint256 value", "uint256 nonce", "uint256 deadline"];

/** Throws unless signing does exactly what the page shows: these lessons at this price, and no more money. */
export function assertShown({ order, permit }: PreparedBatchAnswer["data"], shown: Shown): void {
  const slots = order.message.slots as { start: number; duration: number }[];
  const fits =
    isOf(order, "Order", ORDER, shown.chainId, shown.escrow) &&
    fields(order, "Slot") === SLOT.join() &&
    order.domain.name === "Creneau" &&
    same(order.message.student, shown.student) &&
    BigInt(order.message.hourlyRate as string) === shown.hourlyRateWei &&
    Number(order.message.minLessons) === shown.minLessons &&
    slots.length === shown.slots.length &&
    slots.every((slot, place) => {
      const { start, duration } = shown.slots[place]!;
      return Number(slot.start) * 1000 === start && Number(slot.duration) === duration;
    });
  const permitFits =
    !permit ||
    (isOf(permit, "Permit", PERMIT, shown.chainId, shown.token) &&
      same(permit.message.owner, shown.student) &&
      same(permit.message.spender, shown.escrow) &&
      BigInt(permit.message.value as string) === shown.totalWei);
  if (!fits || !permitFits) throw new WalletProblem("mismatch");
}

function isOf(data: TypedData, type: string, members: string[], chainId: number, contract: string): boolean {
  return (
    data.primaryType === type &&
    fields(data, type) === members.join() &&
    Number(data.domain.chainId) === chainId &&
    same(data.domain.verifyingContract, contract)
  );
}

function fields(data: TypedData, type: string): string | undefined {
  const members = data.types[type] as { name: string; type: string }[] | undefined;
  return members?.map((field) => `${field.type} ${field.name}`).join();
}

function same(one: unknown, other: string): boolean {
  return String(one).toLowerCase() === other.toLowerCase();
}

/** An act as the page shows it: on which lessons of which batch. */
export interface ShownAct {
  chainId: number;
  escrow: string;
  act: string;
  batchId: string;
  places: number[];
}

/** Throws unless signing does what the page shows, with these lessons and no others. */
export function assertShownAct(data: TypedData, { chainId, escrow, act, batchId, places }: ShownAct): void {
  const name = act[0]!.toUpperCase() + act.slice(1);
  const lessons = places.reduce((bits, place) => bits | (1n << BigInt(place)), 0n);
  const fits =
    isOf(data, name, ["bytes32 batch", "uint40 lessons", "uint40 deadline"], chainId, escrow) &&
    same(data.message.batch, batchId) &&
    BigInt(data.message.lessons as string) === lessons;
  if (!fits) throw new WalletProblem("mismatch");
}

/** The signature of an act on lessons, by the wallet that has the account: each is asked, if none says so unasked. */
export async function signAct(
  data: TypedData,
  account: string,
  shown: ShownAct,
  signal?: AbortSignal,
): Promise<string> {
  assertShownAct(data, shown);
  const wallets = await discover();
  const open = await Promise.all(wallets.map((wallet) => isOpenOn(wallet, account)));
  const place = open.indexOf(true);
  let problem = new WalletProblem("none");
  for (const wallet of place < 0 ? wallets : [wallets[place]!]) {
    try {
      await connect(wallet, account, shown.chainId, signal);
      return await signTypedData(wallet, account, data, signal);
    } catch (error) {
      problem = problemOf(error);
      if (problem.code !== "wrongAccount") break;
    }
  }
  throw problem;
}

/** Whether a wallet has shown this account to the page before; that opens no window. */
async function isOpenOn(wallet: Wallet, account: string): Promise<boolean> {
  const accounts = wallet.provider.request({ method: "eth_accounts" }).catch(() => []);
  const known = (await Promise.race([accounts, pause(FIRST_MS).then(() => [])])) as string[];
  return known.some((one) => same(one, account));
}
