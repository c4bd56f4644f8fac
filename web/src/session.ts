/** Who is signed in, where this page is, and what it remembers in this tab. */

import { BlockchainService, storageOf } from "./blockchainService";

/** What the server says about itself (`/page.json`). */
export interface About {
  chainId: number;
  escrow: string;
  token: string;
  cancelSeconds: number;
  explorer: string | null;
  signIn: string | null;
  annonceId: string | null;
  /** The claim of a token that is the user. */
  userClaim: string;
  /** On the demonstration's own network only: as whom one can look at it. */
  demo: { id: string; role: "student" | "tutor"; token: string }[];
}

export interface Account {
  id: string;
  role: string;
  wallet: string;
  custodial: boolean;
  balanceWei: string;
}

const TOKEN = "creneau.token";
const storage = storageOf("sessionStorage");

/** The user whom a token names, unless it has run out. Only the server can say whether it is valid. */
function userOf(token: string | null, claim: string): unknown {
  try {
    const claims = JSON.parse(atob(token!.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")));
    return claims.exp * 1000 > Date.now() ? claims[claim] : null;
  } catch {
    return null;
  }
}

/**
 * The bearer token. A page that signs people in hands it over as `#token=…`, which is taken out of the address.
 * Anybody can make such a link: another person's session gives way only if that person says so.
 */
export function currentToken(about: About, givesWay: () => boolean): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    const user = userOf(storage.getItem(TOKEN), about.userClaim) ?? null;
    const another = user !== null && user !== userOf(given, about.userClaim);
    if (!another || givesWay()) {
      storage.setItem(TOKEN, given);
      if (another) remember("sending", null);
    }
    history.replaceState(history.state, "", location.pathname + location.search);
  }
  return storage.getItem(TOKEN) ?? about.demo[0]?.token ?? null;
}

export function signInAs(token: string): void {
  storage.setItem(TOKEN, token);
}

export async function readAbout(signal?: AbortSignal): Promise<About> {
  const answer = await fetch("/page.json", { signal });
  if (!answer.ok) throw new Error(`/page.json: ${answer.status}`);
  return (await answer.json()) as About;
}

export function serviceFor(token: string | null): BlockchainService {
  return new BlockchainService({ token: () => token });
}

/** What a tab keeps over a reload. */
export function remember(name: string, value: unknown): void {
  storage.setItem(`creneau.${name}`, JSON.stringify(value));
}

export function remembered<T>(name: string): T | null {
  try {
    return JSON.parse(storage.getItem(`creneau.${name}`) ?? "null") as T | null;
  } catch {
    return null;
  }
}
