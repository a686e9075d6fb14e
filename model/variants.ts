/** The variants of the model, and what each must come to: which assertion it violates, and by which mistake. */

/** The assertions, by what SPIN prints of them, without its spaces. */
const ASSERTIONS = {
  'at most once': /^\(effects\[/,
  'stop means stop': /^!\(stop_answered\)/,
  'a final run has no open attempt and no unfinished job': /!\(open\[0\]\)&&!\(open\[1\]\)/,
  'every run ends': /^\(\(campaign==\d\)\|\|\(campaign==\d\)\)$/,
} as const;
type Assertion = keyof typeof ASSERTIONS;

/** How a mistake shows in the lines that the model prints on the way to the violation. */
interface Story {
  /** Of one lead, of the workers and of the run: in this order, others may stand between them. */
  tells: string[];
  /** Of the same lead: nowhere. */
  without?: string[];
}

export interface Variant {
  name: string;
  switches: string[];
  /** What must be violated, and by what; null: nothing may be. */
  breaks: (Story & { assertion: Assertion }) | null;
  /** Too large for the quick check. */
  large?: boolean;
}

/** What was found of a variant: the violated assertion's text and what was printed on the way; both null: it holds. */
export interface Found {
  violated: string | null;
  trace: string[] | null;
}

const faults = (crashes: number, losses: number, takeovers: number) => [
  `CRASHES=${crashes}`,
  `LOSSES=${losses}`,
  `TAKEOVERS=${takeovers}`,
];

const ASKED_IN_TIME = ['attempt 0 is in time', 'attempt 0 is asked for, 0 after its deadline'];
const WHOLE_GRACE = ['attempt 0 is looked for, 3 after its deadline, grace 3', 'attempt 0 is believed absent'];
const CALLED_AGAIN = ['attempt 1 is claimed', 'attempt 1 is asked for', 'attempt 1 calls'];

export const VARIANTS: Variant[] = [
  { name: 'the protocol, with a crash', switches: faults(1, 0, 0), breaks: null },
  { name: 'the protocol, with a lost request', switches: faults(0, 1, 0), breaks: null },
  { name: 'the protocol, with a zombie', switches: faults(0, 0, 1), breaks: null },
  { name: 'the protocol, with all three', switches: [], breaks: null, large: true },
  {
    name: 'expiring creates, without T1 and T2',
    switches: ['EXPIRING', 'NO_T1', 'NO_T2', ...faults(0, 1, 0)],
    breaks: null,
  },
  { name: 'the same, with all three', switches: ['EXPIRING', 'NO_T1', 'NO_T2'], breaks: null, large: true },
  {
    name: 'without T1: a check that misses suspended time',
    switches: ['NO_T1', ...faults(0, 0, 1)],
    breaks: {
      assertion: 'at most once',
      // It slept between the check and the request.
      tells: [
        'attempt 0 is in time',
        'time passes',
        'attempt 0 is asked for, 1 after its deadline',
        'attempt 0 calls',
        ...WHOLE_GRACE,
        ...CALLED_AGAIN,
      ],
    },
  },
  {
    name: 'without T2: an effect at any time',
    switches: ['NO_T2'],
    breaks: {
      assertion: 'at most once',
      // The request was still on its way when its grace was over.
      tells: [...ASKED_IN_TIME, ...WHOLE_GRACE, 'attempt 1 is claimed', 'attempt 0 calls', 'attempt 1 calls'],
    },
  },
  {
    name: 'without T3: a grace that is over too early',
    switches: ['NO_T3'],
    breaks: {
      assertion: 'at most once',
      tells: [
        ...ASKED_IN_TIME,
        'attempt 0 is looked for, 1 after its deadline, grace 3',
        'attempt 0 is believed absent',
        'attempt 1 is claimed',
        'attempt 0 calls',
        'attempt 1 calls',
      ],
    },
  },
  {
    name: 'without T4: a list that lags for ever',
    switches: ['NO_T4'],
    breaks: {
      assertion: 'at most once',
      // There is a call, and the list does not have it.
      tells: [...ASKED_IN_TIME, 'attempt 0 calls', ...WHOLE_GRACE, ...CALLED_AGAIN],
    },
  },
  {
    name: 'without T5: a grace shorter than R + L',
    switches: ['NO_T5'],
    breaks: {
      assertion: 'at most once',
      tells: [
        ...ASKED_IN_TIME,
        'attempt 0 is looked for, 1 after its deadline, grace 1',
        'attempt 0 is believed absent',
        'attempt 1 is claimed',
        'attempt 0 calls',
        'attempt 1 calls',
      ],
    },
  },
  {
    name: 'no deadline',
    switches: ['NO_DEADLINE', ...faults(0, 0, 1)],
    breaks: {
      assertion: 'at most once',
      tells: [
        'attempt 0 is claimed',
        'attempt 0 is asked for, 1 after its deadline',
        'attempt 0 calls',
        ...WHOLE_GRACE,
        ...CALLED_AGAIN,
      ],
      // Nobody has looked.
      without: ['attempt 0 is in time'],
    },
  },
  {
    name: 'resend on time-out',
    switches: ['RESEND'],
    breaks: {
      assertion: 'at most once',
      // Two calls of one attempt, the second of a request of the same claim.
      tells: [
        'attempt 1 is in time',
        'attempt 1 is asked for',
        'attempt 1 calls',
        'attempt 1 has no answer',
        'attempt 1 is asked for again',
        'attempt 1 calls',
      ],
    },
  },
  {
    name: 'direct requeue on reclaim',
    switches: ['DIRECT_REQUEUE'],
    breaks: {
      assertion: 'at most once',
      tells: [
        ...ASKED_IN_TIME,
        'takes the lease',
        'attempt 0 is given up, nothing was looked for',
        'attempt 1 is claimed',
        'attempt 0 calls',
        'attempt 1 calls',
      ],
      without: ['attempt 0 is looked for'],
    },
  },
  {
    name: 'cancel without the run lock',
    switches: ['CANCEL_WITHOUT_LOCK', ...faults(0, 0, 0)],
    breaks: {
      assertion: 'stop means stop',
      tells: ['has the lock and sees the run go on', 'the stop is answered', 'attempt 0 is claimed'],
    },
  },
  {
    name: 'a retry that ignores cancel',
    switches: ['RETRY_IGNORES_CANCEL', ...faults(0, 0, 0)],
    breaks: {
      assertion: 'a final run has no open attempt and no unfinished job',
      tells: [
        'attempt 0 is claimed',
        'the stop is answered',
        'the call of attempt 0 has ended',
        'attempt 0 is closed',
        'waits',
        'the run is cancelled',
      ],
    },
  },
  {
    name: 'a run made final with an open attempt',
    switches: ['FINAL_WITH_OPEN'],
    breaks: {
      assertion: 'a final run has no open attempt and no unfinished job',
      tells: ['attempt 0 is claimed', 'the run is cancelled'],
      without: ['attempt 0 is closed'],
    },
  },
  {
    name: 'requeue behind the cursor',
    switches: ['REQUEUE_BEHIND_CURSOR'],
    breaks: {
      assertion: 'every run ends',
      tells: [
        'attempt 0 is claimed',
        'attempt 0 is closed',
        'queued, the cursor stands at 2',
        'nothing can happen any more',
      ],
    },
  },
  {
    name: 'no reaper by deadline',
    switches: ['NO_REAPER'],
    breaks: {
      assertion: 'every run ends',
      // Its worker died before it had asked, and nobody else ever looked.
      tells: ['attempt 0 is claimed', 'dies', 'nothing can happen any more'],
      without: ['attempt 0 is asked for', 'attempt 0 is past its deadline', 'attempt 0 is closed'],
    },
  },
];

const LEADS = [0, 1];

/** Whether one of the leads met with what the story tells. */
export function tells(trace: readonly string[], { tells, without = [] }: Story): boolean {
  return LEADS.some((lead) => {
    const mine = trace.filter((line) => !line.startsWith('lead ') || line.startsWith(`lead ${lead}: `));
    let from = 0;
    for (const line of mine) if (from < tells.length && line.includes(tells[from] ?? '')) from++;
    return from === tells.length && !mine.some((line) => without.some((never) => line.includes(never)));
  });
}

/** What is wrong with what was found of a variant; null: it is what must come of it. */
export function objection({ name, breaks }: Variant, { violated, trace }: Found): string | null {
  if (breaks === null) return violated === null ? null : 'something was violated';
  if (violated === null) return 'nothing was violated';
  if (!ASSERTIONS[breaks.assertion].test(violated.replaceAll(' ', ''))) return 'another assertion was violated';
  // Its own and no other's: a story that several traces tell says nothing about the mistake.
  const told = VARIANTS.filter((other) => other.breaks !== null && tells(trace ?? [], other.breaks));
  if (told.length === 1 && told[0]?.name === name) return null;
  return `the trace tells ${told.length === 0 ? 'nothing that is known' : told.map((other) => other.name).join('; ')}`;
}
