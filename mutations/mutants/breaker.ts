import type { Equivalent, Mutant } from '../mutant.ts';

const CLOSE = 'packages/engine/src/call/close.ts';
const RECORD = 'packages/engine/src/call/record.ts';
const REFUSED = 'packages/engine/src/call/refusals.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const REFUSALS = 'packages/engine/test/lane-refusals.test.ts';

export const breakerMutants: Mutant[] = [
  {
    name: 'halt-of-a-person',
    what: 'that a halt by a person outlasts a refusal',
    file: CLOSE,
    find: ' AND (halted_reason IS NULL OR halted_until_us IS NOT NULL)',
    replace: '',
    catcher: { test: FENCES, title: 'that a person must resume is not opened by a refusal' },
  },
  {
    name: 'halt-lane-lock',
    what: 'the lock on the lane of whoever halts it: the refusal before is not seen',
    file: CLOSE,
    find: `
       FOR NO KEY UPDATE)
     UPDATE carillon.lanes l SET trusted`,
    replace: `)
     UPDATE carillon.lanes l SET trusted`,
    catcher: { test: BEHIND, title: 'a refusal sees the refusal that comes meanwhile' },
  },
  {
    name: 'halt-doubles',
    what: 'that each refusal in a row doubles the halt',
    file: CLOSE,
    find: 'least($5 * power(2, lane.refusals_in_a_row), $6)',
    replace: 'least($5 * power(2, 0 * lane.refusals_in_a_row), $6)',
    catcher: { test: BEHIND, title: 'a refusal sees the refusal that comes meanwhile' },
  },
  {
    name: 'trust-refused-lane',
    what: 'that only a lane that was refused is trusted again',
    file: RECORD,
    find: '(refusals_in_a_row > 0 OR unlisted_refusals > 0 OR NOT trusted)',
    replace: 'true',
    catcher: { test: REFUSALS, title: 'is not written to by a call that is accepted' },
  },
  {
    name: 'trust-event',
    what: 'that this is an event only where the lane was halted',
    file: RECORD,
    find: 'if (was && was.refusals_in_a_row > 0)',
    replace: 'if (was)',
    catcher: { test: REFUSALS, title: 'begin anew with each call that is accepted' },
  },
  {
    name: 'trust-after-resume',
    what: 'that an accepted call is what makes a lane trusted that a person let go on',
    file: RECORD,
    find: ' OR NOT trusted)',
    replace: ')',
    catcher: { test: REFUSALS, title: 'is nobody special either where a person lets the lane go on' },
  },
  {
    name: 'trust-unlisted',
    what: 'that an accepted call has refusals with unknown codes counted anew',
    file: RECORD,
    find: ' unlisted_refusals = 0,',
    replace: '',
    catcher: { test: REFUSALS, title: 'begin anew with each call that is accepted' },
  },
  {
    name: 'trust-unlisted-alone',
    what: 'that it does also where the lane was never halted',
    file: RECORD,
    find: ' OR unlisted_refusals > 0',
    replace: '',
    catcher: { test: REFUSALS, title: 'begin anew with each call that is accepted' },
  },
  {
    name: 'trust-halt-of-a-person',
    what: 'that a halt by a person outlasts an accepted call',
    file: RECORD,
    find: '\n         AND (halted_reason IS NULL OR halted_until_us IS NOT NULL) FOR NO KEY UPDATE)',
    replace: ' FOR NO KEY UPDATE)',
    catcher: { test: FENCES, title: 'that a person must resume is not closed by an accepted call' },
  },
  {
    name: 'trust-lane-lock',
    what: 'the lock on the lane of whoever trusts it: a halt that commits meanwhile is undone',
    file: RECORD,
    find: '(halted_reason IS NULL OR halted_until_us IS NOT NULL) FOR NO KEY UPDATE)',
    replace: '(halted_reason IS NULL OR halted_until_us IS NOT NULL))',
    catcher: { test: BEHIND, title: 'an accepted call leaves a lane halted that a person halts meanwhile' },
  },
  {
    name: 'refused-waits-longer',
    what: 'that a lead which is refused again and again waits longer each time',
    file: CLOSE,
    find: "if (outcome === 'absent' || attempt_no <= 3) return 0;",
    replace: "if (outcome !== 'not_dialed' || attempt_no <= 3) return 0;",
    catcher: { test: 'packages/engine/test/return-to-pool.test.ts', title: 'waits longer each time after that' },
  },
  {
    name: 'refused-given-up',
    what: 'that a lead which is refused each time, while others are called, is left to a person at last',
    file: CLOSE,
    find: 'if (refused >= limits.refused_attempts && !stopped)',
    replace: 'if (refused < 0)',
    catcher: { test: REFUSALS, title: 'is left to a person after four times' },
  },
  {
    name: 'refused-stopped',
    what: 'that it is cancelled where its run is stopped',
    file: CLOSE,
    find: 'if (refused >= limits.refused_attempts && !stopped)',
    replace: 'if (refused >= limits.refused_attempts)',
    catcher: { test: REFUSALS, title: 'is cancelled like every other where its run is stopped' },
  },
  {
    name: 'refused-class',
    what: 'that a carrier which had too much to do speaks of no lead',
    file: CLOSE,
    find: "was_trusted && refused?.closing.refusal === 'lane'",
    replace: 'was_trusted && refused',
    catcher: { test: REFUSALS, title: 'is not one at which the carrier had too much to do' },
  },
  {
    name: 'refused-untrusted',
    what: 'that nobody is to blame where nothing was accepted since the refusal before',
    file: CLOSE,
    find: "was_trusted && refused?.closing.refusal === 'lane'",
    replace: "refused?.closing.refusal === 'lane'",
    catcher: { test: REFUSALS, title: 'is nobody special where everybody is refused' },
  },
  {
    name: 'refused-before-untrusted',
    what: 'that such refusals do not count later either',
    file: REFUSED,
    find: "outcome = 'rejected' AND lane_was_trusted`",
    replace: "outcome = 'rejected'`",
    catcher: { test: REFUSALS, title: 'is nobody special where everybody is refused' },
  },
  {
    name: 'halt-distrusts',
    what: 'that a refusal makes the lane distrusted',
    file: CLOSE,
    find: 'SET trusted = false,',
    replace: 'SET trusted = l.trusted,',
    catcher: { test: REFUSALS, title: 'is nobody special where everybody is refused' },
  },
  {
    name: 'trust-again',
    what: 'that an accepted call makes it trusted',
    file: RECORD,
    find: 'SET trusted = true,',
    replace: 'SET trusted = l.trusted,',
    catcher: { test: REFUSALS, title: 'is left to a person after four times' },
  },
  {
    name: 'unlisted-many',
    what: 'that many refusals in a row with codes that nobody knows are the lane’s',
    file: REFUSED,
    find: 'by_lane.has(item) ?',
    replace: 'by_lane.size < 0 ?',
    catcher: { test: REFUSALS, title: 'fail their leads; after five in a row the lane is halted and probed' },
  },
  {
    name: 'unlisted-before',
    what: 'the count of those before',
    file: REFUSED,
    find: '(lane?.before ?? 0)',
    replace: '(lane ? 0 : 0)',
    catcher: { test: REFUSALS, title: 'fail their leads; after five in a row the lane is halted and probed' },
  },
  {
    name: 'unlisted-together',
    what: 'that each counts of those that come together',
    file: REFUSED,
    find: 'unlisted.slice(by_lead)',
    replace: 'unlisted.slice(by_lead > 0 ? unlisted.length : 0)',
    catcher: { test: REFUSALS, title: 'count also where they come together' },
  },
  {
    name: 'unlisted-known',
    what: 'that refusals which are known for the number’s do not count',
    file: REFUSED,
    find: "closing.refusal === 'unlisted'",
    replace: "closing.outcome === 'rejected'",
    catcher: { test: REFUSALS, title: 'are not those of a number that is known to be none' },
  },
  {
    name: 'unlisted-code',
    what: 'that a code which nobody knows is told from those of the number',
    file: 'packages/carriers/src/twilio/place.ts',
    find: "class: 'unlisted',",
    replace: "class: 'contact',",
    catcher: {
      test: 'packages/carriers/test/twilio-place-answers.test.ts',
      title: 'rejected: 400 with a code nobody knows',
    },
  },
];

const FOLDED =
  'PostgreSQL never folds a WITH query that locks rows into the statement around it; its manual does not promise so, and the word does';

export const breakerEquivalents: Equivalent[] = [
  { file: CLOSE, what: 'MATERIALIZED of the lane that is locked to be halted', why: FOLDED },
  { file: RECORD, what: 'MATERIALIZED of the lane that is locked to be trusted', why: FOLDED },
];
