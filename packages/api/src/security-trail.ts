import type { BusinessId } from '@carillon/contract';
import { type Database, recordSecurity, recordStrangers, type SecurityNote } from '@carillon/engine';
import type { ApiLimits } from './limits.ts';

/** What is noted comes into the trail some seconds later, gathered, so that a flood of refusals is no flood of rows. */
export interface SecurityTrail {
  /** Takes no time and never throws. `business_id` is null where no business is known by a valid secret. */
  note(business_id: BusinessId | null, event: Omit<SecurityNote, 'times'>): void;
  /** Writes what is at hand. */
  close(): Promise<void>;
}

/** Different events of one business, or of all strangers, in one writing; what is above it is one row for each action. */
const DIFFERENT_EVENTS = 20;

type Group = Map<string, SecurityNote>;

/** `onLost` hears how many events could not be written, and why. */
export function createSecurityTrail(
  db: Database,
  limits: Pick<ApiLimits, 'security_gather_ms' | 'security_strangers_gather_ms' | 'security_waiting_events'>,
  onLost: (events: number, error: unknown) => void,
): SecurityTrail {
  const groups = new Map<BusinessId | null, Group>();
  const timers = new Map<BusinessId | null, NodeJS.Timeout>();
  let waiting = 0;
  // One after the other: a database that stalls must not have all connections taken by this.
  let writing = Promise.resolve();

  function groupOf(business_id: BusinessId | null): Group {
    const there = groups.get(business_id);
    if (there) return there;
    const fresh: Group = new Map();
    groups.set(business_id, fresh);
    const gather_ms = business_id === null ? limits.security_strangers_gather_ms : limits.security_gather_ms;
    timers.set(business_id, setTimeout(flush, gather_ms, business_id).unref());
    return fresh;
  }

  function flush(business_id: BusinessId | null): void {
    clearTimeout(timers.get(business_id));
    timers.delete(business_id);
    writing = writing.then(async () => {
      const group = groups.get(business_id);
      if (!group) return;
      groups.delete(business_id);
      const events = [...group.values()];
      waiting -= events.length;
      await write(business_id, events).catch((error: unknown) => onLost(count(events), error));
    });
  }

  async function write(business_id: BusinessId | null, events: SecurityNote[]): Promise<void> {
    if (business_id === null) await recordStrangers(db, events);
    else await recordSecurity(db, business_id, events);
  }

  return {
    note(business_id, event) {
      if (waiting >= limits.security_waiting_events)
        return onLost(1, new Error('too many security events wait to be written'));
      const group = groupOf(business_id);
      const { request_id: _, ...who } = event.actor;
      const alike = JSON.stringify([event.action, who, event.subject, event.after]);
      if (group.has(alike) || group.size < DIFFERENT_EVENTS) gather(group, alike, event);
      else gather(group, event.action, { action: event.action, actor: SEVERAL, after: {} });
    },
    async close() {
      for (const business_id of groups.keys()) flush(business_id);
      await writing;
    },
  };

  function gather(group: Group, name: string, event: Omit<SecurityNote, 'times'>): void {
    const same = group.get(name);
    if (same) same.times++;
    else {
      group.set(name, { ...event, times: 1 });
      waiting++;
    }
  }
}

/** Stands for those of whom there were too many to name each; the log names them. */
const SEVERAL = { name: 'several', user_id: null };

const count = (events: SecurityNote[]): number => events.reduce((sum, { times }) => sum + times, 0);
