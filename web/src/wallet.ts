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
  | "wrongAccount"
  | "silent"
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

const PATIENCE_MS = 60_000;

/** The wallets of this browser. Those that follow EIP-6963 answer at once. */
export function discover(): Wallet[] {
  const found = new Map<string, Wallet>();
  const announced = (event: Event) => {
    const wallet = (event as CustomEvent<Wallet>).detail;
    found.set(wallet.info.uuid, wallet);
  };
  window.addEventListener("eip6963:announceProvider", announced);
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  window.removeEventListener("eip6963:announceProvider", announced);
  const old = (window as { ethereum?: Provider }).ethereum;
  if (!found.size && old) return [{ info: { uuid: "old", name: "Ethereum", icon: "" }, provider: old }];
  return [...found.values()];
}

/** Opens the wallet on the account that pays, on the right chain. */
export async function connect(wallet: Wallet, account: string, chainId: number): Promise<void> {
  const accounts = (await ask(wallet, "eth_requestAccounts")) as string[];
  if (!accounts.some((one) => same(one, account))) throw new WalletProblem("wrongAccount");
  if (Number(await ask(wallet, "eth_chainId")) !== chainId) throw new WalletProblem("wrongChain");
}

export async function switchChain(wallet: Wallet, chainId: number): Promise<void> {
  await ask(wallet, "wallet_switchEthereumChain", [{ chainId: `0x${chainId.toString(16)}` }]);
}

/** The wallet's signature of typed data (EIP-712). An integrator may put another signer in its place. */
export async function signTypedData(wallet: Wallet, account: string, data: TypedData): Promise<string> {
  return (await ask(wallet, "eth_signTypedData_v4", [account, JSON.stringify(data)])) as string;
}

async function ask(wallet: Wallet, method: string, params: unknown[] = []): Promise<unknown> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new WalletProblem("silent")), PATIENCE_MS);
  });
  try {
    return await Promise.race([wallet.provider.request({ method, params }), silence]);
  } catch (error) {
    throw problemOf(error);
  } finally {
    clearTimeout(timer);
  }
}

/** The codes of EIP-1193 and EIP-1474 as problems. */
function problemOf(error: unknown): WalletProblem {
  if (error instanceof WalletProblem) return error;
  const { code, message } = error as { code?: number; message?: string };
  if (code === 4001) return new WalletProblem("refused");
  if (code === 4900 || code === 4901 || code === 4902) return new WalletProblem("wrongChain");
  if (code === -32002) return new WalletProblem("busy");
  return new WalletProblem("other", message ?? String(error));
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

/** The signature of an act on lessons, by the wallet that has the account. */
export async function signAct(data: TypedData, account: string, shown: ShownAct): Promise<string> {
  assertShownAct(data, shown);
  const wallet = discover()[0];
  if (!wallet) throw new WalletProblem("none");
  await connect(wallet, account, shown.chainId);
  return signTypedData(wallet, account, data);
}
