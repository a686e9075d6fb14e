import { EventEmitter } from 'node:events';
import pg from 'pg';
import { everybodyWaits, type Process, type World, worldOf } from './world.ts';

/** The real PostgreSQL behind a world: one connection for each login, since there is one transaction at a time. */
export interface Server {
  app: pg.Client;
  discovery: pg.Client;
}

/** What the seed has the database do to its clients; asked at each transaction and statement. */
export interface DatabaseFate {
  /** Refuses connections and breaks those there are. */
  isDown(): boolean;
  /** The database's clock, against true time. */
  offset_us(): number;
  /** What befalls the next transaction or single statement of this process; null: nothing. */
  draw(process: Process): Mishap | null;
  /** Kills the process, and has it started again some time later. */
  kill(process: Process): void;
  /** Stops the process for a time that the seed decides. */
  stop(process: Process): void;
  /** A notice that is lost on its way to this listener. */
  losesNotice(): boolean;
}

/**
 * Before a statement: `serialization`, the server gives the transaction up; `cut`, the connection breaks, and with it the
 * transaction; `killed` or `stopped`, the process (a stopped one's transaction is ended by the server). After COMMIT, or
 * after a statement by itself: `answer_lost`, `killed_after`, `stopped_after`.
 */
export interface Mishap {
  kind: 'serialization' | 'cut' | 'answer_lost' | 'killed' | 'stopped' | 'killed_after' | 'stopped_after';
  /** Before which statement of a transaction, from 0; one that has none that far has it at COMMIT. */
  at: number;
}

interface Setting {
  server: Server;
  fate: DatabaseFate;
  /** Processes that listen, each with what hears. */
  listeners: Map<object, { process: Process; hear(payload: string): void; end(): void }>;
}
const settings = new WeakMap<World, Setting>();

/** Gives a world its database. */
export function setDatabase(world: World, server: Server, fate: DatabaseFate): void {
  settings.set(world, { server, fate, listeners: new Map() });
}

/** The database goes down: whoever listens hears its connection end. */
export function endListening(world: World): void {
  const { listeners } = settingOf(world);
  for (const [name, { process, end }] of listeners) {
    listeners.delete(name);
    world.after(world.random.whole(100, 5_000), process, 'its listening connection ends', () => world.as(process, end));
  }
}

function settingOf(world: World): Setting {
  const setting = settings.get(world);
  if (!setting) throw new Error('the world has no database');
  return setting;
}

type Query = string | { text: string; values?: unknown[]; name?: string };
type Result = pg.QueryResult<pg.QueryResultRow>;

const textOf = (query: Query): string => (typeof query === 'string' ? query : query.text);
/** What a statement is called in the trace: what it does to its first table. */
function nameOf(query: Query): string {
  const text = textOf(query);
  const [, deed, table] = /\b(INSERT INTO|UPDATE|DELETE FROM|FROM)\s+carillon\.(\w+)/.exec(text) ?? [];
  return table === undefined ? text.slice(0, 40) : `${deed === 'FROM' ? 'SELECT' : deed} ${table}`;
}

const refused = () => Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
const terminated = () => new Error('Connection terminated unexpectedly');

function serializationFailure(): Error {
  const error = new pg.DatabaseError('could not serialize access due to concurrent update', 0, 'error');
  return Object.assign(error, { code: '40001' });
}

/** Between a process and the server, either way; now and then one of them is slow. */
function latency_us({ random }: World): number {
  return random.chance(0.02) ? random.whole(20_000, 400_000) : random.whole(50, 3_000);
}

/** Planned once for each connection, also what is parsed anew each time outside: a seed sends little else. */
function prepared(query: Query): Query {
  if (typeof query === 'string' || query.name !== undefined) return query;
  let name = names.get(query.text);
  if (name === undefined) names.set(query.text, (name = `simulated_${names.size + 1}`));
  return { ...query, name };
}
const names = new Map<string, string>();

/** Sends statements in one go and waits for every answer. */
async function carryOut(client: pg.Client, queries: Query[]): Promise<PromiseSettledResult<Result>[]> {
  return await Promise.allSettled(queries.map((query) => client.query(prepared(query) as pg.QueryConfig)));
}

/** For every statement that is sent after it. */
function setClock(world: World, client: pg.Client): void {
  const now_us = world.now_us() + settingOf(world).fate.offset_us();
  const text = "SELECT set_config('simulated.now_us', $1, false)";
  void client.query(prepared({ text, values: [String(now_us)] }) as pg.QueryConfig);
}

/** A pool of pg's, as far as the engine uses one. */
export function createSimulatedPool(process: Process, config: pg.PoolConfig) {
  const world = worldOf(process);
  const login = new URL(config.connectionString ?? '').username.endsWith('_discovery') ? 'discovery' : 'app';
  const pool = Object.assign(new EventEmitter(), {
    options: { max: config.max ?? 10 },
    totalCount: 0,
    idleCount: 0,
    waitingCount: 0,
    connect: () =>
      new Promise((resolve, reject) => {
        world.after(latency_us(world), process, '', async () => {
          const { fate, server } = settingOf(world);
          if (fate.isDown()) return reject(refused());
          const connection = createConnection(process, login);
          setClock(world, server[login]);
          world.as(process, () => pool.emit('acquire', connection.client));
          resolve(connection.client);
          await connection.run();
        });
      }),
    end: async () => {},
  });
  return pool;
}

interface Waiting {
  query: Query;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** A statement by itself: a transaction of its own. */
async function carryOutAlone(
  process: Process,
  login: 'app' | 'discovery',
  sent: Waiting,
  mishap: Mishap['kind'] | null,
) {
  const world = worldOf(process);
  const { fate, server } = settingOf(world);
  if (mishap === 'killed') return fate.kill(process);
  if (mishap === 'stopped') fate.stop(process);
  if (mishap === 'cut' || mishap === 'serialization' || mishap === 'stopped') {
    world.after(latency_us(world), process, 'a statement fails', () => sent.reject(terminated()));
    return;
  }
  const values = typeof sent.query === 'string' ? [] : (sent.query.values ?? []);
  if (/pg_notify/.test(textOf(sent.query))) notify(world, String(values[1]));
  const [settled] = await carryOut(server[login], [sent.query]);
  if (mishap === 'killed_after') return fate.kill(process);
  if (mishap === 'stopped_after') fate.stop(process);
  world.after(latency_us(world), process, '', () => {
    if (mishap === 'answer_lost') sent.reject(terminated());
    else if (settled?.status === 'fulfilled') sent.resolve(settled.value);
    else sent.reject(settled?.reason);
  });
}

/** Every listener hears it after its own time, or not at all. */
function notify(world: World, payload: string): void {
  const { listeners, fate } = settingOf(world);
  for (const { process, hear } of listeners.values())
    if (!fate.losesNotice()) world.after(latency_us(world), process, '', () => world.as(process, () => hear(payload)));
}

/**
 * One transaction, from the connection's hand-over to its end, in which nothing else in the world happens: so every
 * interleaving of transactions is tried that PostgreSQL could make of them one after the other, and none of its locks is
 * waited for (those are held by the tests of the engine, with transactions that really wait).
 */
function createConnection(process: Process, login: 'app' | 'discovery') {
  const world = worldOf(process);
  const { fate, server } = settingOf(world);
  const mishap = fate.draw(process);
  const events = new EventEmitter();
  let waiting: Waiting[] = [];
  let broken = false;
  let over = false;
  const isOver = () => over;
  /** The server has given the transaction up, and answers nothing but its end. */
  let aborted = false;
  /** Carried out; BEGIN and the business that follows it are none. */
  let statements = -2;
  const done: string[] = [];

  const client = {
    on: events.on.bind(events),
    off: events.off.bind(events),
    release() {
      over = true;
    },
    query: (query: Query) =>
      new Promise<Result>((resolve, reject) => {
        if (broken) reject(new Error('Client has encountered a connection error and is not queryable'));
        else waiting.push({ query, resolve, reject });
      }),
  };

  async function rollBack(): Promise<void> {
    await server.app.query('ROLLBACK');
  }

  /** The connection is gone: every statement fails, the one under way first. */
  async function breakDown(after_us: number, what: string): Promise<void> {
    broken = true;
    over = true;
    const left = waiting;
    waiting = [];
    world.after(after_us, process, what, () => {
      world.as(process, () => events.emit('error', terminated()));
      for (const { reject } of left) reject(terminated());
    });
  }

  /** What befalls the transaction before this statement is carried out; true: it goes no further. */
  async function befalls(query: Query): Promise<boolean> {
    const commits = textOf(query) === 'COMMIT';
    if (!mishap || !(statements === mishap.at || (commits && mishap.at >= statements))) return false;
    if (mishap.kind === 'answer_lost' || mishap.kind.endsWith('_after')) return false;
    await rollBack();
    const where = `before ${nameOf(query)}`;
    if (mishap.kind === 'killed') {
      over = true;
      fate.kill(process);
    } else if (mishap.kind === 'serialization') {
      world.tell(`${process.name}: a serialisation failure ${where}`);
      const [first, ...left] = waiting;
      waiting = left;
      first?.reject(serializationFailure());
      aborted = true;
    } else {
      if (mishap.kind === 'stopped') fate.stop(process);
      await breakDown(latency_us(world), `its connection breaks ${where}`);
    }
    return true;
  }

  /** After COMMIT: its answer comes, is lost, or finds nobody. */
  function answerCommit({ resolve, reject }: Waiting, result: Result): void {
    over = true;
    const kind = mishap?.kind;
    if (kind === 'killed_after') return fate.kill(process);
    if (kind === 'stopped_after') fate.stop(process);
    if (kind === 'answer_lost') {
      waiting = [];
      broken = true;
      world.after(latency_us(world), process, 'the answer to COMMIT is lost', () => {
        world.as(process, () => events.emit('error', terminated()));
        reject(terminated());
      });
      return;
    }
    world.after(latency_us(world), process, '', () => resolve(result));
  }
  /** The next statement by itself, since something befalls it or its transaction is over with it; or all there are. */
  async function step(): Promise<void> {
    const [next] = waiting;
    if (!next) throw new Error(`${process.name} waits inside a transaction for something that is no statement`);
    if (aborted) return answerAborted(next);
    if (await befalls(next.query)) return;
    const most = mishap ? Math.max(1, mishap.at - statements) : waiting.length;
    const batch = waiting.splice(0, textOf(next.query) === 'COMMIT' ? 1 : most);
    const settled = await carryOut(
      server.app,
      batch.map(({ query }) => query),
    );
    for (const [i, sent] of batch.entries()) {
      const outcome = settled[i];
      statements++;
      if (outcome?.status === 'fulfilled') answer(sent, outcome.value);
      else sent.reject(outcome?.reason);
    }
  }

  function answerAborted({ query, resolve, reject }: Waiting): void {
    waiting.shift();
    const text = textOf(query);
    if (text === 'ROLLBACK') over = true;
    if (text === 'ROLLBACK' || text === 'COMMIT') resolve({ command: 'ROLLBACK', rows: [], rowCount: null } as never);
    else reject(Object.assign(new pg.DatabaseError('current transaction is aborted', 0, 'error'), { code: '25P02' }));
  }

  function answer(sent: Waiting, result: Result): void {
    const text = textOf(sent.query);
    if (text === 'COMMIT') {
      world.tell(`${process.name}: ${result.command} of ${done.join(', ')}`);
      return answerCommit(sent, result);
    }
    if (statements > 0) done.push(`${nameOf(sent.query)} ${result.rowCount}`);
    if (text === 'ROLLBACK') over = true;
    sent.resolve(result);
  }

  return {
    client,
    async run() {
      await everybodyWaits();
      const [first] = waiting;
      if (first && textOf(first.query) !== 'BEGIN') {
        waiting = [];
        return await carryOutAlone(process, login, first, mishap?.kind ?? null);
      }
      while (!isOver()) {
        await step();
        await everybodyWaits();
      }
      if (waiting.length > 0 && process.alive && !broken)
        throw new Error(`${process.name} sends ${nameOf((waiting[0] as Waiting).query)} after its transaction’s end`);
    },
  };
}

/** A client of pg's, as far as `listenForWakes` uses one. */
export function createSimulatedClient(process: Process) {
  const world = worldOf(process);
  const { listeners, fate } = settingOf(world);
  const events = new EventEmitter();
  return Object.assign(events, {
    connect: () =>
      new Promise<void>((resolve, reject) => {
        world.after(latency_us(world), process, '', () => (fate.isDown() ? reject(refused()) : resolve()));
      }),
    query: (_listen: string) =>
      new Promise<void>((resolve, reject) => {
        world.after(latency_us(world), process, '', () => {
          if (fate.isDown()) return reject(terminated());
          listeners.set(events, {
            process,
            hear: (payload) => events.emit('notification', { payload }),
            end: () => events.emit('end'),
          });
          resolve();
        });
      }),
    end: async () => void listeners.delete(events),
  });
}
