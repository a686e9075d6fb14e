/** What is checked, in the words and by the numbers of docs/audit.md. */
export const INVARIANTS = {
  1: 'no job has two open attempts, and no lead a call that the retry policy does not explain',
  2: 'each call at the carrier belongs to one attempt, and each attempt that was placed has its call',
  3: "a run's counters equal its rows, and these their attempts",
  4: 'no attempt was committed under an older control epoch than its run had, and none after a stop',
  5: "live calls and starts keep within the lane's and the run's limits",
  6: 'final runs hold only finished jobs, and nothing that should have moved on stands still',
  7: "no attempt lies outside its run's window",
  8: 'each state change of a run has its actor and time',
} as const;
export type Invariant = keyof typeof INVARIANTS;

/** Something that must not be. Evidence holds ids, states, times and figures; never a number or a name of a person. */
export interface Violation {
  invariant: Invariant;
  business_id: number;
  run_id?: number;
  /** `<run_id>-<seq>`. */
  job_id?: string;
  /** The attempt's number. */
  attempt?: number;
  /** A sentence. */
  what: string;
  evidence: Record<string, unknown>;
}

/** Something that could not be judged, and is therefore not known to be in order. */
export interface Incomplete {
  invariant: Invariant;
  business_id?: number;
  what: string;
}

/** How many of each were looked at. */
export interface Checked {
  businesses: number;
  runs: number;
  jobs: number;
  attempts: number;
  /** Of the trail, about runs. */
  events: number;
  /** Calls in the simulated carrier's ledger that bear the audited runs' or accounts' names. */
  ledger_calls: number;
  /** Pairs of numbers whose calls the carrier was asked to list. */
  carrier_numbers: number;
}

export interface AuditReport {
  /** Nothing is violated, and nothing was left unjudged. */
  ok: boolean;
  checked: Checked;
  /** At most VIOLATIONS_LISTED of each invariant; `violated` counts all. */
  violations: Violation[];
  violated: Record<Invariant, number>;
  incomplete: Incomplete[];
}

/** The limits under which the audited installation works; the same names as its own. */
export interface AuditLimits {
  lease_ttl_ms: number;
  dial_deadline_ms: number;
  claim_ahead_ms: number;
  ring_timeout_ms: number;
  carrier_effect_delay_ms: number;
  carrier_listing_delay_ms: number;
  reconcile_margin_ms: number;
  /** Runs that one worker holds, at most. */
  worker_runs: number;
}

export const VIOLATIONS_LISTED = 200;

export interface Findings {
  readonly checked: Checked;
  violation(found: Violation): void;
  incomplete(found: Incomplete): void;
  report(): AuditReport;
}

/** Gathers what is found, in bounded memory: a broken million gives as many words as a broken thousand. */
export function createFindings(): Findings {
  const checked: Checked = {
    businesses: 0,
    runs: 0,
    jobs: 0,
    attempts: 0,
    events: 0,
    ledger_calls: 0,
    carrier_numbers: 0,
  };
  const violated = { 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0 };
  const violations: Violation[] = [];
  const incomplete: Incomplete[] = [];
  return {
    checked,
    violation(found) {
      violated[found.invariant] += 1;
      if (violated[found.invariant] <= VIOLATIONS_LISTED) violations.push(found);
    },
    incomplete(found) {
      incomplete.push(found);
    },
    report: () => ({
      ok: violations.length === 0 && incomplete.length === 0,
      checked,
      violations: violations.toSorted((a, b) => a.invariant - b.invariant),
      violated,
      incomplete,
    }),
  };
}
