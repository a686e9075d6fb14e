import type { Equivalent, Mutant } from '../mutant.ts';

const NOTICE = 'packages/engine/src/restore/notice.ts';
const STATE = 'packages/engine/src/restore/state.ts';
const WATCH = 'packages/engine/src/restore/watch.ts';
const RESTORE = 'packages/engine/test/restore.test.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const FORGOTTEN = 'packages/engine/test/restore-fences.test.ts';

export const noticeMutants: Mutant[] = [
  {
    name: 'whole-suspected',
    what: 'the suspicion, in the question that a claim asks',
    file: STATE,
    find: 'WHERE s.singleton AND s.suspected_at IS NULL AND (s.place',
    replace: 'WHERE s.singleton AND (s.place',
    catcher: { test: RESTORE, title: 'nothing is claimed by anybody, nothing resumed' },
  },
  {
    name: 'whole-place',
    what: 'the place of the database, in the question that a claim asks',
    file: STATE,
    find: 'AND (s.place IS NULL OR s.place = ${HERE})',
    replace: '',
    catcher: { test: RESTORE, title: 'another timeline, by the claim itself' },
  },
  {
    name: 'whole-beat',
    what: 'what this process wrote last, in the question that a claim asks',
    file: STATE,
    find: 'WHERE w.witness_id = $1 AND w.beat >= $2::bigint))) AS whole`',
    replace: 'WHERE w.witness_id = $1 AND $2::bigint > 0))) AS whole`',
    catcher: { test: RESTORE, title: 'an older state, by a process that lived through it' },
  },
  {
    name: 'objection-place',
    what: 'the look whether the database is in another place',
    file: STATE,
    find: 'if (state.place !== null && state.place !== state.here) return placeChanged(state.place, state.here);',
    replace: '',
    catcher: { test: RESTORE, title: 'another place, in part' },
  },
  {
    name: 'objection-restores',
    what: 'the look whether the database has forgotten a restore',
    file: STATE,
    find: 'if (state.restores < known.restores)',
    replace: 'if (state.restores < 0)',
    catcher: { test: RESTORE, title: 'that a restore which was noticed is forgotten' },
  },
  {
    name: 'objection-unknown-witness',
    what: 'the look whether the database knows this process',
    file: STATE,
    find: 'if (beat === null) return `an older state: it does not know ${known.witness_id}, which had written to it`;',
    replace: 'if (beat === null) return null;',
    catcher: { test: RESTORE, title: 'a state from before the process began' },
  },
  {
    name: 'objection-beats',
    what: 'the look whether the database has what this process wrote',
    file: STATE,
    find: 'if (beat < known.beat)',
    replace: 'if (beat < 0)',
    catcher: { test: RESTORE, title: 'an older state, by a process that lived through it' },
  },
  {
    name: 'noticed-once',
    what: 'that of several processes one notices a restore',
    file: NOTICE,
    find: 'WHERE singleton AND suspected_at IS NULL RETURNING restores)',
    replace: 'WHERE singleton RETURNING restores)',
    catcher: { test: FORGOTTEN, title: 'is noticed once, whoever says so' },
  },
  {
    name: 'noticed-restores',
    what: 'how many restores a process remembers that the database has forgotten',
    file: NOTICE,
    find: 'greatest(restores, $4::int) + 1',
    replace: '0 * $4::int + restores + 1',
    catcher: { test: RESTORE, title: 'that a restore which was noticed is forgotten' },
  },
  {
    name: 'paused-while-suspected',
    what: 'the look, under the run’s lock, whether it is acknowledged meanwhile',
    file: NOTICE,
    find: 'if (!(await isSuspected(tx))) return false;',
    replace: '',
    catcher: { test: BEHIND, title: 'a run is not paused for a restore that is acknowledged meanwhile' },
  },
  {
    name: 'paused-run-lock',
    what: 'that this look comes behind the run’s lock',
    file: NOTICE,
    find: '        await lockRun(tx, run_id);\n',
    replace: '',
    catcher: { test: BEHIND, title: 'a run is not paused for a restore that is acknowledged meanwhile' },
  },
  {
    name: 'acknowledged-restore',
    what: 'that a person acknowledges the restore that was seen',
    file: STATE,
    find: 'WHERE singleton AND suspected_at IS NOT NULL AND restores = $3 RETURNING restores)',
    replace: 'WHERE singleton AND suspected_at IS NOT NULL AND $3::int >= 0 RETURNING restores)',
    catcher: { test: FORGOTTEN, title: 'is acknowledged only as the one that was seen' },
  },
  {
    name: 'first-place',
    what: 'that only the first process says where the database stands',
    file: STATE,
    find: 'WHERE singleton AND place IS NULL AND suspected_at IS NULL`',
    replace: 'WHERE singleton AND suspected_at IS NULL`',
    catcher: { test: FORGOTTEN, title: 'is told its place by the first process alone' },
  },
  {
    name: 'raised-beat',
    what: 'that a process does not write on in an older state',
    file: WATCH,
    find: 'WHERE witness_id = $1 AND beat >= $2 RETURNING beat`',
    replace: 'WHERE witness_id = $1 AND $2::bigint >= 0 RETURNING beat`',
    catcher: { test: FORGOTTEN, title: 'that is put back between a look and a write is written to by nobody' },
  },
  {
    name: 'enrolled-beat',
    what: 'that a process’s count never falls',
    file: WATCH,
    find: 'beat = greatest(w.beat, $2::bigint) + 1',
    replace: 'beat = w.beat + 1 + 0 * $2::bigint',
    catcher: { test: FORGOTTEN, title: 'is believed from then on with what its processes have counted' },
  },
  {
    name: 'objection-acknowledged',
    what: 'that a process which slept through a restore does not raise it again',
    file: STATE,
    find: 'if (known === null || state.restores > known.restores) return null;',
    replace: 'if (known === null) return null;',
    catcher: { test: RESTORE, title: 'is over also for a process that was asleep' },
  },
  {
    name: 'enrols-after-restore',
    what: 'that such a process takes over what the older state has of it',
    file: WATCH,
    find: 'known === null || is_other || state.restores !== known.restores;',
    replace: 'known === null || is_other;',
    catcher: { test: RESTORE, title: 'is over also for a process that was asleep' },
  },
  {
    name: 'enrols-in-another',
    what: 'that it also does when the database is suspected already',
    file: WATCH,
    find: 'known === null || is_other || state.restores !== known.restores;',
    replace: 'known === null || state.restores !== known.restores || (is_other && false);',
    catcher: { test: RESTORE, title: 'is taken for the one to be known, though the database is suspected already' },
  },
];

export const noticeEquivalents: Equivalent[] = [
  {
    file: NOTICE,
    what: 'the state of the runs that are looked for to be paused',
    why: 'a pause looks at it again under the run’s lock; here it saves asking in vain',
  },
];
