/** What every screen shares: the context, links, and the small parts that screens are made of. */

import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Annonce, type BlockchainService, isRefusal, type Refusal } from "./blockchainService";
import type { Language, Texts } from "./i18n";
import { formatEdu } from "./money";
import type { About, Account } from "./session";
import * as time from "./time";
import type { WalletCode } from "./wallet";

export interface Page {
  about: About;
  service: BlockchainService;
  account: Account | null;
  /** Reads the account again: its balance changes. */
  refreshAccount: () => void;
  language: Language;
  /** The browser's own variety of the language: British dates for who wants them. */
  locale: string;
  t: Texts;
  zone: string;
  go: (path: string, options?: { replace?: boolean }) => void;
}

export const PageContext = createContext<Page>(null as unknown as Page);

export function usePage() {
  const page = useContext(PageContext);
  const { locale, zone } = page;
  return {
    ...page,
    edu: (wei: bigint | string) => formatEdu(BigInt(wei), locale),
    clock: (instant: number, inZone = zone) => time.clock(instant, inZone, locale),
    day: (instant: number, inZone = zone) => time.day(instant, inZone, locale),
    zoneName: (instant: number, inZone = zone) => time.zoneName(inZone, instant, locale),
  };
}

/** A link inside the page. */
export function Link(props: { to: string; class?: string; current?: boolean; children: ComponentChildren }) {
  const { go } = usePage();
  const follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(props.to);
  };
  return (
    <a href={props.to} class={props.class} aria-current={props.current ? "page" : undefined} onClick={follow}>
      {props.children}
    </a>
  );
}

/** A screen's title. It takes the focus, so that a screen reader says where one is. */
export function Title({ children, focus = true }: { children: string; focus?: boolean }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    document.title = `${children} · Creneau`;
  }, [children]);
  useEffect(() => {
    if (focus) heading.current?.focus({ preventScroll: false });
  }, [children, focus]);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {children}
    </h1>
  );
}

/** One sentence about what went wrong, and beside it what to do. */
export function Notice(props: { kind?: "problem" | "warning" | "info"; text: string; more?: string; children?: ComponentChildren }) {
  const { kind = "problem", text, more, children } = props;
  return (
    <div class={`notice ${kind}`} role={kind === "info" ? "status" : "alert"}>
      <div>
        <p class="lead">{text}</p>
        {more && <p>{more}</p>}
      </div>
      {children && <div class="actions">{children}</div>}
    </div>
  );
}

export function Busy({ text }: { text: string }) {
  return (
    <p class="busy" role="status">
      <span class="spinner" aria-hidden="true" />
      {text}
    </p>
  );
}

/** A refusal in the page's language, where the page knows its code. */
export function RefusalNotice({ refusal, retry }: { refusal: Refusal; retry?: () => void }) {
  const { t, about } = usePage();
  const over = refusal.status === 401;
  const text = over ? t.sessionOver : refusal.status === 0 ? t.unreachable : t.serviceSays(refusal.message, refusal.code);
  return (
    <Notice text={text}>
      {over && about.signIn && (
        <a class="button" href={about.signIn}>
          {t.signIn}
        </a>
      )}
      {retry && !over && (
        <button type="button" class="button" onClick={retry}>
          {t.retry}
        </button>
      )}
    </Notice>
  );
}

const CHAINS: Record<number, string> = {
  41923: "EDU Chain (chain id 41923)",
  656476: "Open Campus Codex (chain id 656476)",
};

/** What a wallet did not do, in one sentence. */
export function walletSentence({ t, about, account }: Page, code: WalletCode, message: string): string {
  const address = account ? short(account.wallet) : "";
  const chain = CHAINS[about.chainId] ?? `chain id ${about.chainId}`;
  const texts: Record<WalletCode, string> = {
    none: t.noWallet,
    refused: t.refused,
    busy: t.walletBusy,
    wrongChain: t.wrongChain(chain),
    unknownChain: t.unknownChain(chain),
    wrongAccount: t.wrongAccount(address),
    gaveUp: t.gaveUp,
    mismatch: t.mismatch,
    other: t.walletError(message),
  };
  return texts[code];
}

/** An address as people compare it: 0x1234…abcd. */
export function short(address: string): string {
  return `${address.slice(0, 6)}…${address.slice(-4)}`;
}

/** A lesson's day and time in the viewer's zone, and in another where its clocks differ. */
export function When({ start, minutes, other }: { start: number; minutes: number; other?: string }) {
  const { clock, day, zone, zoneName } = usePage();
  const end = start + minutes * time.MINUTE;
  const differs = other && !time.sameClock(zone, other, start);
  return (
    <span class="when">
      <span class="day">{day(start)}</span>{" "}
      <time dateTime={new Date(start).toISOString()}>
        {clock(start)} – {clock(end)}
      </time>
      {differs && (
        <span class="other">
          {time.localOf(start, zone).date === time.localOf(start, other).date ? "" : `${day(start, other)} `}
          {clock(start, other)} – {clock(end, other)}, {zoneName(start, other)}
        </span>
      )}
    </span>
  );
}

/** Runs now, whenever the page is looked at again, and every so often. */
export function useFresh(read: (signal: AbortSignal) => Promise<void>, every: number, depends: unknown[]): void {
  useEffect(() => {
    const leaving = new AbortController();
    const look = () => {
      if (document.visibilityState === "visible") run(read, leaving.signal);
    };
    run(read, leaving.signal);
    const timer = setInterval(look, every);
    window.addEventListener("focus", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      leaving.abort();
      clearInterval(timer);
      window.removeEventListener("focus", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, depends);
}

/** Runs work that ends with the screen; its abort is no error. */
export function useWork(work: (signal: AbortSignal) => Promise<void>, depends: unknown[]): void {
  useEffect(() => {
    const leaving = new AbortController();
    run(work, leaving.signal);
    return () => leaving.abort();
  }, depends);
}

function run(work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): void {
  work(signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

const annonces = new WeakMap<BlockchainService, Map<string, Promise<Annonce | null>>>();

/** An annonce, each asked for once; null until it is known. */
export function useAnnonce(id: string | null | undefined): Annonce | null {
  const { service } = usePage();
  const [found, setFound] = useState<Annonce | null>(null);
  useWork(
    async (signal) => {
      if (!id) return;
      if (!annonces.has(service)) annonces.set(service, new Map());
      const known = annonces.get(service)!;
      if (!known.has(id)) {
        known.set(
          id,
          service.getAnnonce(id).then((answer) => (isRefusal(answer) ? null : answer.data)),
        );
      }
      const annonce = await known.get(id)!;
      if (!annonce) known.delete(id);
      if (!signal.aborted) setFound(annonce);
    },
    [service, id],
  );
  return found;
}

/** Where an annonce is booked. */
export function listingPath(about: About, id: string | null | undefined): string {
  return id && id !== about.annonceId ? `/?annonce=${encodeURIComponent(id)}` : "/";
}
