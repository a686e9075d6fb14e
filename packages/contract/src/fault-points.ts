/**
 * Every place of a lead's way at which a process may die and something is at stake: before and after each commit, and
 * around each request to a carrier. The one list: who passes a place names it from here, a test kills a process at each
 * of them, and each says what would be lost or doubled there.
 *
 * Not in it, because nothing is at stake there: what only reads; beats of witnesses and signs of life of workers, which
 * come again; the note why an account is not settled yet (`accountIsUnsettled`), which is written anew with each try;
 * canaries of the readiness check, which call nobody; and what a person changes of keys, lists, people and accounts in one
 * transaction that nothing has to follow. Imports, migrations and adoptions have kill tests of their own:
 * `test/system/import.test.ts` and `packages/engine/test/import-faults.test.ts`, `packages/engine/test/migrate-kill.test.ts`,
 * `packages/engine/test/adopt-kill.test.ts`. A person's word that a restore is acknowledged is one statement, before and
 * behind which stand places of the list: lanes are resumed before it, runs after it.
 *
 * It stands in the contract because the engine, the carriers and the worker pass these places, and carriers know nothing
 * else of ours. Nobody listens in production: passing one is a single branch.
 */
interface Commit {
  /**
   * All statements are done, COMMIT is not sent: dying here undoes them; being stopped here holds their locks. Where it is
   * one statement without a transaction of ours, that is not sent.
   */
  before_commit: string;
  /** The server has answered COMMIT; whoever waits for it has not heard of it. */
  committed: string;
}

/** The transactions on the way of a lead, by the name that `inBusiness` is given. */
export const COMMITS = {
  create: {
    before_commit: 'a run that nobody was told of must leave nothing behind, and its key must be free',
    committed: 'the run is there and its maker has no answer: the same key must get this run, not a second one',
  },
  fill: {
    before_commit: 'the next jobs of a list are undone: none may be missing when the run goes on',
    committed: 'the jobs are made and nobody claims them: the next worker must find them and make none again',
  },
  lease: {
    before_commit: 'the run must stay free for another worker, without waiting for a lease that nobody has',
    committed: 'a lease whose holder is dead: another must get the run when the TTL is over',
  },
  heartbeat: {
    before_commit: 'a renewal that is undone must not look like one',
    committed: 'a renewal whose sender is dead keeps the run for one more TTL, and no longer',
  },
  release: {
    before_commit: 'a lease that was not given back must expire by itself',
    committed: 'a lease that was given back must not be waited for',
  },
  claim: {
    before_commit: 'intents that are undone must not be dialled; stopped here, the run and the lane are locked',
    committed: 'committed intents that nobody dials: each must be proven absent, and then called',
  },
  record: {
    before_commit: 'a call id that only this process knows is lost: the carrier must be asked for the call',
    committed: 'the call id is known, and whoever brought it may bring it again: it must change nothing',
  },
  settle: {
    before_commit: 'the end of a call that is undone: the carrier must be asked again, and its lead not called again',
    committed: 'the job and perhaps the run are finished: the same end told again must not count twice',
  },
  late: {
    before_commit: 'evidence about a closed attempt is undone: it must be taken when it comes again',
    committed: 'evidence about a closed attempt is taken: the next copy must find nothing to do',
  },
  expire: {
    before_commit: 'attempts past their deadline stay `dialing`: the next worker must find them',
    committed: 'attempts are `unknown` and their reaper is dead: another must ask the carrier',
  },
  take_turn: {
    before_commit: 'nobody has the turn to ask about an attempt: another must take it at once',
    committed: 'who has the turn to ask is dead: it must come round again',
  },
  take_unwanted: {
    before_commit: 'nobody has the turn to hang up a call that nobody wants: another must take it',
    committed: 'who has the turn to hang up is dead: it must come round again, or the call goes on',
  },
  unwanted_over: {
    before_commit: 'the call is over and the intent to hang it up still stands: doing it again must do no harm',
    committed: 'the intent is done: nobody may come back to it',
  },
  forgotten: {
    before_commit: 'a call that the database does not know is not on record: the carrier must tell of it again',
    committed: 'the lane is halted and the call is to be hung up, though the carrier got no answer',
  },
  pause: {
    before_commit: 'nobody was told that the run is paused, so it must go on',
    committed: 'the run must be paused though nobody was told, and asking again must change nothing',
  },
  resume: {
    before_commit: 'nobody was told that the run goes on, so it must stay paused',
    committed: 'the run must go on though nobody was told, and asking again must change nothing',
  },
  stop: {
    before_commit: 'nobody was told that the run is stopped, so it must go on',
    committed: 'the run must be stopped though nobody was told, and asking again must change nothing',
  },
  sweep: {
    before_commit: 'rows of a stopped run keep their old state: the next sweep must take them',
    committed: 'a part of the rows is swept: the next sweep must go on behind it',
  },
  cancel_job: {
    before_commit: 'nobody was told that the job is cancelled, so it must be called',
    committed: 'the job must not be called though nobody was told, and its counter must have moved once',
  },
  resolve: {
    before_commit: 'a person’s decision is undone: the job must still be under review',
    committed: 'a person’s decision stands though nobody was told: deciding again must be refused',
  },
  reconcile: {
    before_commit: 'what was to be settled now waits for its turn as before',
    committed: 'what was to be settled now has no worker that was told: the next one must find it',
  },
  erase: {
    before_commit: 'nobody was told that a person is erased, so nothing of them may be gone, and they must be called',
    committed: 'the person must not be called though nobody was told, and the counter of skipped must have moved once',
  },
  lane_resume: {
    before_commit: 'nobody was told that the lane goes on, so it must stay halted',
    committed: 'the lane must take calls though nobody was told, and asking again must change nothing',
  },
  restore_notice: {
    before_commit: 'only a process that dies knows that calls are forgotten: the next must notice it by itself',
    committed: 'it is on record and no run is paused: nobody may claim anything, and another must pause them',
  },
  restore_pause: {
    before_commit:
      'a run whose pause is undone looks as if it went on: nobody may claim in it, and another must pause it',
    committed: 'the run is paused and whoever paused it is dead: others must leave it so until a person resumes it',
  },
  restore_turn: {
    before_commit: 'nobody has the turn to ask for an account’s list: another must take it at once',
    committed: 'who has the turn to ask for a list is dead: it must come round again, or nobody can acknowledge',
  },
  restore_compare: {
    before_commit: 'forgotten calls are not noted: the list must be asked for and compared again',
    committed: 'forgotten calls are noted and their leads still wait: the next comparison must take them for forgotten',
  },
  restore_review: {
    before_commit: 'leads whose call was forgotten wait as before: the next comparison must put them under review',
    committed: 'the leads are under review and the account is not settled: comparing again must not count them twice',
  },
  restore_settled: {
    before_commit:
      'an account is compared and not settled: nobody may acknowledge before another has compared it again',
    committed: 'the account is settled and who settled it is dead: it need not be asked for its list again',
  },
} as const satisfies Record<string, Commit>;
/** The name of a transaction on the way of a lead. */
export type CommitName = keyof typeof COMMITS;

/** The requests to a carrier. */
export const CARRIER_REQUESTS = {
  dial: {
    before_connect: 'committed and not yet asked for: no call exists, and the lead must be called',
    headers_out: 'a request without its body, which the carrier drops: no call exists',
    before_body:
      'the deadline was checked, and the body’s bytes follow in the same turn: stopped here, they leave late',
    body_out: 'the carrier has the whole request and will call; nobody will read its answer',
    answered: 'the carrier has told the call’s id, and only this process knows it',
  },
  find: {
    before_request: 'an unknown attempt is not asked about: another must ask',
    answered: 'what became of an unknown attempt is known to a process that dies: another must ask again',
  },
  fetch_call: {
    before_request: 'a silent live call is not asked about: another must ask',
    answered: 'the end of a call is known to a process that dies: another must ask again',
  },
  hang_up: {
    before_request: 'a call that is to be hung up goes on: the order must be given by another',
    answered: 'the order is given and its end is not recorded: giving it again must do no harm',
  },
  list: {
    before_request: 'an account is not asked for its calls after a restore: another must ask',
    answered: 'which calls are forgotten is known to a process that dies: another must ask for the list again',
  },
} as const satisfies Record<string, Record<string, string>>;

export const FAULT_POINTS = { ...COMMITS, ...CARRIER_REQUESTS };
export type FaultPlace = keyof typeof FAULT_POINTS;

/** All of them, as `claim.committed`. */
export const FAULT_POINT_NAMES: readonly string[] = Object.entries(FAULT_POINTS).flatMap(([place, moments]) =>
  Object.keys(moments).map((moment) => `${place}.${moment}`),
);

/** Hears of each point that this process passes, and for whom if that is told. What it throws fails the work there. */
export type FaultHandler = (place: string, moment: string, whom?: string) => void;

let handler: FaultHandler | null = null;

/** For the process that runs, once, before it begins; null takes it away again. */
export function setFaultHandler(wanted: FaultHandler | null): void {
  handler = wanted;
}

/** Passes a point. Never waits for anything that comes later: some points lie where nothing may be awaited. */
export function faultPoint<Place extends FaultPlace>(
  place: Place,
  moment: keyof (typeof FAULT_POINTS)[Place] & string,
  whom?: string,
): void {
  if (handler !== null) handler(place, moment, whom);
}
