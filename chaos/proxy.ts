import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Random } from './random.ts';

/** Where in a statement or request a connection is cut: its bytes lost, half of them lost, or only what answers them. */
export const CUTS = ['request_lost', 'request_halved', 'answer_lost'] as const;
export type Cut = (typeof CUTS)[number];

export interface Upstream {
  host: string;
  port: number;
}

/** A TCP connection between two processes, with a hand on it. */
export interface Proxy {
  port: number;
  /** Cuts each connection with the chance given, as soon as it carries a request: in its middle. Returns how many. */
  cut(share: number, random: Random): number;
  /** Nothing comes through in either direction, and nothing is lost. */
  stall(stalled: boolean): void;
  /** Whatever the client sends arrives this much later, in its order; 0 ends it. */
  delay(ms: number): void;
  /**
   * Whatever the other side answers arrives this much later: it has done what it was asked, and nobody hears of it in
   * time. Ends with the returned function; of several at once the longest holds.
   */
  holdAnswers(ms: number): () => void;
  /** New connections are refused, and those that stand are reset, until each who wanted it has taken it back. */
  refuse(refused: boolean): Promise<void>;
  close(): Promise<void>;
}

interface Link {
  cutAtNext: Cut | null;
  /** Something was sent that has no answer yet. */
  asked: boolean;
  resume(): void;
  reset(): void;
}

/** What a connection that does not ask anything in this time is cut at anyway. */
const CUT_WITHIN_MS = 500;

/** `choose` names where the next connection goes, in the order in which they are tried. */
export async function startProxy(choose: () => readonly Upstream[]): Promise<Proxy> {
  const links = new Set<Link>();
  /** Also those whose way to the other side is still being sought. */
  const clients = new Set<Socket>();
  const state = { stalled: false, delay_ms: 0 };
  const holds = new Set<{ ms: number }>();
  let refusals = 0;
  let turning = Promise.resolve();
  let server = await listenSomewhere();
  const { port } = server.address() as AddressInfo;

  /**
   * Below the ports that connections go out from: while this one is refused, one of those might else take it, even to
   * itself, and it could not be had again.
   */
  async function listenSomewhere(): Promise<Server> {
    for (;;) {
      try {
        return await listen(randomInt(15_000, 32_000));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      }
    }
  }

  async function listen(at: number): Promise<Server> {
    // Half of a connection may end before the other has said all.
    const fresh = createServer({ allowHalfOpen: true, noDelay: true }, (client) => void accept(client));
    fresh.listen(at, '127.0.0.1');
    await once(fresh, 'listening');
    return fresh;
  }

  async function accept(client: Socket): Promise<void> {
    clients.add(client);
    client.on('error', () => client.destroy());
    client.once('close', () => clients.delete(client));
    const upstream = await reach(choose());
    if (!upstream || client.destroyed) {
      upstream?.destroy();
      client.resetAndDestroy();
      return;
    }
    const link: Link = {
      cutAtNext: null,
      asked: false,
      resume() {
        forward.go();
        back.go();
      },
      reset() {
        client.resetAndDestroy();
        upstream.resetAndDestroy();
      },
    };
    links.add(link);
    const forward = carry(
      client,
      upstream,
      () => state.delay_ms,
      state,
      (chunk) => interfere(link, upstream, chunk),
    );
    const back = carry(
      upstream,
      client,
      () => Math.max(0, ...[...holds].map(({ ms }) => ms)),
      state,
      (chunk) => {
        link.asked = false;
        return chunk;
      },
    );
    for (const socket of [client, upstream]) {
      socket.on('error', () => link.reset());
      socket.once('close', () => {
        if (socket.errored) link.reset();
        if (client.destroyed && upstream.destroyed) links.delete(link);
      });
    }
  }

  /** Opens or closes the port, as those who refuse it want by now: several may at once. */
  async function turn(): Promise<void> {
    if (refusals === 0 && !server.listening) server = await listen(port);
    if (refusals === 0 || !server.listening) return;
    const closed = once(server, 'close');
    server.close();
    resetAll();
    await closed;
  }

  function resetAll(): void {
    for (const link of links) link.reset();
    for (const client of clients) client.resetAndDestroy();
  }

  return {
    port,
    cut(share, random) {
      const chosen = [...links].filter(() => random.chance(share));
      for (const link of chosen) {
        const how = random.pick(CUTS);
        // One that waits for its answer is in the middle of a statement already.
        if (link.asked && how === 'answer_lost') link.reset();
        else {
          link.cutAtNext = how;
          setTimeout(() => link.reset(), CUT_WITHIN_MS).unref();
        }
      }
      return chosen.length;
    },
    stall(stalled) {
      state.stalled = stalled;
      if (!stalled) for (const link of links) link.resume();
    },
    delay: (ms) => void (state.delay_ms = ms),
    holdAnswers(ms) {
      const hold = { ms };
      holds.add(hold);
      return () => void holds.delete(hold);
    },
    refuse(refused) {
      refusals += refused ? 1 : -1;
      turning = turning.then(turn);
      return turning;
    },
    async close() {
      server.close();
      resetAll();
    },
  };
}

/** The first that can be reached; undefined when none can. */
async function reach(upstreams: readonly Upstream[]): Promise<Socket | undefined> {
  for (const upstream of upstreams) {
    const socket = connect({ ...upstream, noDelay: true, allowHalfOpen: true });
    const reached = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    if (reached) return socket;
  }
  return undefined;
}

/** Null: the connection has been cut, and nothing more is passed on. */
function interfere(link: Link, upstream: Socket, chunk: Buffer): Buffer | null {
  link.asked = true;
  const cut = link.cutAtNext;
  if (cut === null) return chunk;
  link.cutAtNext = null;
  if (cut === 'request_lost') {
    link.reset();
    return null;
  }
  const sent = cut === 'request_halved' ? chunk.subarray(0, Math.ceil(chunk.length / 2)) : chunk;
  // It is with the kernel, and so with the server, before the reset; an answer finds nobody.
  upstream.write(sent, () => setImmediate(() => link.reset()));
  return null;
}

/** Passes on what one socket says to the other, in its order; what waits is bounded by not reading any more. */
function carry(
  from: Socket,
  to: Socket,
  delayMs: () => number,
  state: { stalled: boolean },
  touch: (chunk: Buffer) => Buffer | null,
): { go(): void } {
  const waiting: { chunk: Buffer | null; due_ms: number }[] = [];
  let timer: NodeJS.Timeout | undefined;
  function go(): void {
    clearTimeout(timer);
    for (let next = waiting[0]; next && !state.stalled; next = waiting[0]) {
      const left_ms = next.due_ms - performance.now();
      if (left_ms > 0) {
        timer = setTimeout(go, left_ms);
        return;
      }
      waiting.shift();
      if (next.chunk === null) to.end();
      else {
        const touched = to.destroyed ? null : touch(next.chunk);
        if (touched && !to.write(touched)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      }
    }
    if (!state.stalled && from.isPaused() && !to.writableNeedDrain) from.resume();
  }
  function add(chunk: Buffer | null): void {
    waiting.push({ chunk, due_ms: performance.now() + delayMs() });
    if (state.stalled) from.pause();
    go();
  }
  from.on('data', add);
  from.once('end', () => add(null));
  // Whoever went away without a word leaves nothing to wait for on the other side.
  from.once('close', () => {
    if (!from.readableEnded) to.destroy();
  });
  return { go };
}
