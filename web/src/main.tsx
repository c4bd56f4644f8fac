/** The frame: who is signed in, in which language, and which screen the address names. */

import { Component, type ComponentChildren, type JSX, render } from "preact";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { BatchPage } from "./BatchPage";
import { isRefusal, type Refusal, storageOf } from "./blockchainService";
import { BookingPage } from "./BookingPage";
import { type Language, preferredLanguage, TEXTS } from "./i18n";
import { Busy, Link, Notice, type Page, PageContext, RefusalNotice, Title, usePage, useWork } from "./page";
import { type About, type Account, currentToken, readAbout, remember, serviceFor, signInAs } from "./session";
import "./style.css";
import { localeOf, viewerZone } from "./time";

const LANGUAGE = "creneau.language";
const storage = storageOf("localStorage");

function savedLanguage(): Language {
  const saved = storage.getItem(LANGUAGE);
  return saved === "en" || saved === "fr" ? saved : preferredLanguage(navigator.languages);
}

/** What nobody expected is one sentence and a way back, never an empty page. */
class Boundary extends Component<{ children: ComponentChildren }, { broken: boolean; said: boolean }> {
  state = { broken: false, said: false };

  componentDidCatch() {
    this.setState({ broken: true });
  }

  componentDidMount() {
    // What extensions do, wallets among them, is not this page's.
    const heard = (where: string) => /-extension:\/\//.test(where) || this.setState({ said: true });
    addEventListener("unhandledrejection", ({ reason }) => heard(String(reason?.stack)));
    addEventListener("error", ({ filename }) => filename.startsWith(location.origin) && heard(filename));
  }

  render() {
    const t = TEXTS[savedLanguage()];
    const { broken, said } = this.state;
    const notice = (
      <Notice text={t.broken} more={t.brokenHelp}>
        <button type="button" class="button" onClick={() => location.reload()}>
          {t.reload}
        </button>
      </Notice>
    );
    if (broken) {
      return (
        <main id="content">
          <h1>Creneau</h1>
          {notice}
        </main>
      );
    }
    return (
      <>
        {said && notice}
        {this.props.children}
      </>
    );
  }
}

function App() {
  const [about, setAbout] = useState<About | null>(null);
  const [unreachable, setUnreachable] = useState(false);
  const [language, setLanguage] = useState(savedLanguage);
  const t = TEXTS[language];

  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);

  const read = useCallback((signal?: AbortSignal) => {
    setUnreachable(false);
    readAbout(signal).then(setAbout, () => setUnreachable(!signal?.aborted));
  }, []);
  useEffect(() => {
    const leaving = new AbortController();
    read(leaving.signal);
    return () => leaving.abort();
  }, []);

  const choose = (chosen: Language) => {
    storage.setItem(LANGUAGE, chosen);
    setLanguage(chosen);
  };
  if (about) return <Signed about={about} language={language} setLanguage={choose} />;
  return (
    <main id="content">
      {unreachable ? (
        <Notice text={t.unreachable}>
          <button type="button" class="button" onClick={() => read()}>
            {t.retry}
          </button>
        </Notice>
      ) : (
        <Busy text={t.loading} />
      )}
    </main>
  );
}

function Signed(props: { about: About; language: Language; setLanguage: (language: Language) => void }) {
  const { about, language, setLanguage } = props;
  const t = TEXTS[language];
  const [token, setToken] = useState(() => currentToken(about, () => confirm(t.anotherSession)));
  const [account, setAccount] = useState<Account | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [asked, setAsked] = useState(0);
  const [pathname, setPath] = useState(location.pathname);
  const path = pathname.replace(/(?<=.)\/$/, "");
  const service = useMemo(() => serviceFor(token), [token]);

  useWork(
    async (signal) => {
      if (!token) return;
      const answer = await service.getAccount({ signal });
      setRefusal(isRefusal(answer) ? answer : null);
      if (!isRefusal(answer)) setAccount(answer.data);
    },
    [service, asked],
  );
  useEffect(() => {
    const moved = () => setPath(location.pathname);
    window.addEventListener("popstate", moved);
    return () => window.removeEventListener("popstate", moved);
  }, []);

  const refreshAccount = useCallback(() => setAsked((count) => count + 1), []);
  const go: Page["go"] = (to, { replace = false } = {}) => {
    history[replace ? "replaceState" : "pushState"](null, "", to);
    setPath(new URL(to, location.href).pathname);
    window.scrollTo(0, 0);
  };
  const become = (chosen: string) => {
    signInAs(chosen);
    remember("sending", null);
    setAccount(null);
    setToken(chosen);
    go(path.startsWith("/bookings") ? "/bookings" : "/");
  };

  const page: Page = { about, service, account, refreshAccount, language, t, locale: localeOf(language, navigator.languages), zone: viewerZone(), go };
  return (
    <PageContext.Provider value={page}>
      <a class="skip" href="#content">
        {t.skip}
      </a>
      <header>
        <Link to="/" class="mark">
          <span class="logo" aria-hidden="true" />
          Creneau
        </Link>
        <nav aria-label={t.mainNavigation}>
          <Link to="/" current={path === "/" || path === "/review"}>
            {t.book}
          </Link>
          <Link to="/bookings" current={path === "/bookings"}>
            {t.myBookings}
          </Link>
        </nav>
        {about.demo.length > 0 && (
          <div class="switch demo" role="group" aria-labelledby="demo">
            <span id="demo">{t.demo}</span>
            {about.demo.map((person) => (
              <button
                type="button"
                key={person.id}
                aria-pressed={account ? account.id === person.id : person.token === token}
                onClick={() => become(person.token)}
              >
                {t[person.role]}
              </button>
            ))}
          </div>
        )}
        <fieldset class="switch">
          <legend class="hidden">{t.language}</legend>
          {(["fr", "en"] as const).map((one) => (
            <button
              type="button"
              key={one}
              lang={one}
              aria-label={one === "fr" ? "FR – Français" : "EN – English"}
              aria-pressed={one === language}
              onClick={() => setLanguage(one)}
            >
              {one.toUpperCase()}
            </button>
          ))}
        </fieldset>
      </header>
      <main id="content" tabIndex={-1}>
        {!token && (
          <Notice kind="info" text={t.signInFirst}>
            {about.signIn && (
              <a class="button" href={about.signIn}>
                {t.signIn}
              </a>
            )}
          </Notice>
        )}
        {refusal && <RefusalNotice refusal={refusal} retry={refreshAccount} />}
        <Screen path={path} key={token} />
      </main>
    </PageContext.Provider>
  );
}

function Screen({ path }: { path: string }) {
  const annonce = new URLSearchParams(location.search).get("annonce");
  const batch = /^\/bookings\/batch\/(0x[0-9a-f]{64})$/.exec(path)?.[1];
  if (batch) return <BatchPage batchId={batch} key={batch} />;
  if (path === "/bookings") return <MyBookings />;
  if (path === "/" || path === "/review") return <BookingPage annonceId={annonce} reviewing={path === "/review"} />;
  return <NotFound />;
}

/** Loaded when it is looked at: who books does not need it. */
function MyBookings() {
  const { t } = usePage();
  const [List, setList] = useState<(() => JSX.Element) | null>(null);
  useWork(async () => {
    const { MyBookings } = await import("./MyBookings");
    setList(() => MyBookings);
  }, []);
  return List ? <List /> : <Busy text={t.loading} />;
}

function NotFound() {
  const page = TEXTS[savedLanguage()];
  return <Title>{page.notFound}</Title>;
}

render(
  <Boundary>
    <App />
  </Boundary>,
  document.getElementById("page")!,
);
