import { randomBytes } from 'node:crypto';
import { isoTime } from './clock.ts';
import type { Clock } from './clock.ts';
import { noFile, openLedgerFile } from './ledger-file.ts';
import type { LedgerLine, Unfinished } from './ledger-file.ts';
import { createCounter } from './totals.ts';
import type { Counter, Totals } from './totals.ts';
import { isFinal } from './types.ts';
import type { CallRequest, CallStatus, LedgerEntry, Plan, ResponseFate } from './types.ts';

/** Every call that the carrier accepted, in the order of acceptance, with what became of it. Nothing is ever removed. */
export interface Ledger {
  readonly entries: readonly LedgerEntry[];
  /** Writes the call down; it exists from here on. */
  create(call: NewCall): LedgerEntry;
  status(entry: LedgerEntry, status: CallStatus): void;
  response(entry: LedgerEntry, response: Exclude<ResponseFate, 'pending'>): void;
  answeredBy(entry: LedgerEntry, answered_by: string): void;
  warn(entry: LedgerEntry, code: number, message: string): void;
  find(account: string, sid: string): LedgerEntry | undefined;
  /** An account's calls, oldest first; with `to`, those to this number. */
  ofAccount(account: string, to?: string): readonly LedgerEntry[];
  /** The token that the account's requests bear now; kept in the file, for the callbacks of calls that outlive a restart. */
  rememberToken(account: string, auth_token: string): void;
  totals(): Totals & { accounts: Record<string, Totals> };
  /** Calls that were live when the file was last written; handed out once, at start. */
  takeUnfinished(): Unfinished[];
  close(): void;
}

export interface NewCall {
  account: string;
  request: CallRequest;
  plan: Plan;
  nth: number;
}

interface Account {
  calls: LedgerEntry[];
  by_number: Map<string, LedgerEntry[]>;
  counter: Counter;
  token: string;
}

/** Throws when the file can't be opened or read. */
export function openLedger(path: string | undefined, now: Clock): Ledger {
  const entries: LedgerEntry[] = [];
  const by_sid = new Map<string, LedgerEntry>();
  const accounts = new Map<string, Account>();
  const overall = createCounter();
  const unfinished = new Map<string, Unfinished>();

  function account(sid: string): Account {
    let found = accounts.get(sid);
    if (!found) accounts.set(sid, (found = { calls: [], by_number: new Map(), counter: createCounter(), token: '' }));
    return found;
  }

  function add(call: Extract<LedgerLine, { type: 'call' }>): LedgerEntry {
    const { to, from, url, status_callback } = call.request;
    const entry: LedgerEntry = {
      index: call.index,
      sid: call.sid,
      account: call.account,
      to,
      from,
      created_at: isoTime(call.created_us),
      created_us: call.created_us,
      url,
      status_callback,
      outcome: call.plan.outcome,
      nth: call.nth,
      status: 'queued',
      statuses: [{ status: 'queued', at_us: call.created_us }],
      response: 'pending',
      answered_by: null,
      warning: null,
    };
    const owner = account(call.account);
    entries.push(entry);
    by_sid.set(entry.sid, entry);
    owner.calls.push(entry);
    const same = owner.by_number.get(to);
    if (same) same.push(entry);
    else owner.by_number.set(to, [entry]);
    owner.counter.created(entry);
    overall.created(entry);
    return entry;
  }

  function move(entry: LedgerEntry, status: CallStatus, at_us: number): void {
    entry.status = status;
    entry.statuses.push({ status, at_us });
    if (!isFinal(status)) return;
    account(entry.account).counter.ended();
    overall.ended();
  }

  function known(sid: string): LedgerEntry {
    const entry = by_sid.get(sid);
    if (!entry) throw new Error(`${path}: a line tells of call ${sid}, which the lines before it do not know`);
    return entry;
  }

  function restore(line: LedgerLine): void {
    if (line.type === 'token') account(line.account).token = line.auth_token;
    else if (line.type === 'call') {
      if (line.index !== entries.length) {
        throw new Error(
          `${path}: call ${line.sid} is out of its place; did two simulators write to this file at once?`,
        );
      }
      const entry = add(line);
      const signing_key = account(line.account).token;
      unfinished.set(line.sid, { entry, request: line.request, plan: line.plan, signing_key });
    } else if (line.type === 'status') {
      move(known(line.sid), line.status, line.at_us);
      if (isFinal(line.status)) unfinished.delete(line.sid);
    } else if (line.type === 'response') known(line.sid).response = line.response;
    else if (line.type === 'answered_by') known(line.sid).answered_by = line.answered_by;
    else if (line.type === 'warning') known(line.sid).warning = { code: line.code, message: line.message };
  }

  const file = path === undefined ? noFile : openLedgerFile(path, restore);
  // Whoever waited for these answers lost them with the process that would have sent them.
  for (const entry of entries) if (entry.response === 'pending') entry.response = 'lost';

  return {
    entries,
    create({ account, request, plan, nth }) {
      const line = {
        type: 'call' as const,
        index: entries.length,
        sid: `CA${randomBytes(16).toString('hex')}`,
        account,
        created_us: now(),
        nth,
        request,
        plan,
      };
      file.append(line);
      return add(line);
    },
    status(entry, status) {
      const at_us = now();
      file.append({ type: 'status', sid: entry.sid, status, at_us });
      move(entry, status, at_us);
    },
    response(entry, response) {
      file.append({ type: 'response', sid: entry.sid, response });
      entry.response = response;
    },
    answeredBy(entry, answered_by) {
      file.append({ type: 'answered_by', sid: entry.sid, answered_by });
      entry.answered_by = answered_by;
    },
    warn(entry, code, message) {
      file.append({ type: 'warning', sid: entry.sid, code, message });
      entry.warning = { code, message };
    },
    find(account, sid) {
      const entry = by_sid.get(sid);
      return entry?.account === account ? entry : undefined;
    },
    ofAccount(account, to) {
      const owner = accounts.get(account);
      return (to === undefined ? owner?.calls : owner?.by_number.get(to)) ?? [];
    },
    rememberToken(sid, auth_token) {
      const owner = account(sid);
      if (owner.token === auth_token) return;
      file.append({ type: 'token', account: sid, auth_token });
      owner.token = auth_token;
    },
    totals() {
      const per_account = [...accounts].map(([sid, { counter }]): [string, Totals] => [sid, counter.read()]);
      return { ...overall.read(), accounts: Object.fromEntries(per_account) };
    },
    takeUnfinished() {
      const taken = [...unfinished.values()];
      unfinished.clear();
      return taken;
    },
    close: () => file.close(),
  };
}
