/*
 * The dial protocol: lease, claim, dial, crash, zombie, cancel, expire, reconcile, late evidence, for 2 workers and
 * 2 leads. Checked exhaustively by model/check.ts; what it says about the shipped code is in model/README.md.
 *
 * Time has no number here. Every age that somebody compares is counted in ticks and stops counting where nobody asks
 * any further, so that the states are finitely many; a tick is possible as long as it changes something. What is
 * assumed about time is what forbids a tick (a request may not be older than R without having had its effect, a call
 * not older than L without being listed) or what joins two steps into one (the check of the deadline and the send).
 *
 * Switches. Assumptions taken away: NO_T1 to NO_T5. A carrier with expiring creates: EXPIRING. Broken variants:
 * NO_DEADLINE, RESEND, DIRECT_REQUEUE, CANCEL_WITHOUT_LOCK, RETRY_IGNORES_CANCEL, FINAL_WITH_OPEN,
 * REQUEUE_BEHIND_CURSOR, NO_REAPER. How much goes wrong: CRASHES, LOSSES, TAKEOVERS.
 *
 * Each step that matters prints a line: read back along an error's trail, they are the story of that error, which
 * model/check.ts looks at. They stand within atomic steps only, where they make no state of their own.
 */
#define WORKERS 2
#define LEADS 2
#define TRIES 2          /* attempts of one job that the model has room for */
#define TOKENS 4         /* LEADS * TRIES */

#define D 1              /* from the clock's reading before a claim to the dial deadline */
#define R 1              /* from the send to its effect, at most (T2) */
#define L 1              /* from the effect to its place in the carrier's list, at most (T4) */
#ifdef NO_T5
#define GRACE 1          /* less than R + L */
#else
#define GRACE 3          /* from the deadline to believing absence: more than R + L, by a margin for skew (T5) */
#endif

mtype = { queued, waiting, in_progress, done, job_cancelled, review };
mtype = { running, cancelling, cancelled, completed };
mtype = { dialing, unknown, placed };
mtype = { none, in_flight, live, over, dropped };

/* The database. */
mtype campaign = running;
mtype job[LEADS] = queued;
byte tries[LEADS];               /* attempts committed */
bool open[LEADS];                /* has an open attempt: number tries - 1 */
mtype attempt[LEADS] = dialing;  /* its state */
byte cursor;                     /* the next lead that was never claimed */
byte retries[LEADS];             /* what the retry policy still allows after a known outcome: of lead 0, one */
bool absent[LEADS];              /* waiting because its last attempt was believed absent */
bool locked;                     /* the run's row */
byte leased_by = WORKERS;        /* nobody */
bool stop_answered;

/* Time, per attempt ever made: ticks to its deadline, then ticks since. */
byte left[TOKENS];
byte past[TOKENS];

/* The carrier, per attempt ever made. */
mtype request[TOKENS] = none;
byte age[TOKENS];                /* of a request in flight, or of a call not yet listed */
bool listed[TOKENS];
byte effects[LEADS];             /* calls that took place */
byte known[LEADS];               /* of those, how many have an outcome that somebody knows */

/* The workers' own. */
bool alive[WORKERS] = true;      /* believes that it has the lease it took */
byte own_left[WORKERS];          /* to the deadline by its own clock, read before the claim was sent */

/* How much goes wrong, at most. */
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 1
#endif
byte crashes = CRASHES;
byte losses = LOSSES;            /* requests that never have an effect */
byte takeovers = TAKEOVERS;      /* leases taken from a worker that only seemed dead */

#define TOKEN(j, n) ((j) * TRIES + (n))
#define CURRENT(j) TOKEN(j, tries[j] - 1)
#define IS_FINAL(j) (job[j] == done || job[j] == job_cancelled || job[j] == review)

/* The lead and the number of an attempt, to be printed. */
#define OF(t) (t) / TRIES, (t) % TRIES

inline settleRun() {
  if
  :: !open[0] && !open[1] && campaign == cancelling -> campaign = cancelled; printf("> the run is cancelled\n")
  :: !open[0] && !open[1] && campaign == running && IS_FINAL(0) && IS_FINAL(1) ->
     campaign = completed; printf("> the run is completed\n")
  :: else
  fi;
  assert(!(campaign == cancelled || campaign == completed) || (!open[0] && !open[1] && IS_FINAL(0) && IS_FINAL(1)))
}

/* Closed: what nobody looks at any more gets one value, so that alike states are the same. */
inline close(j) {
  printf("> lead %d: attempt %d is closed\n", OF(CURRENT(j)));
  open[j] = false; left[CURRENT(j)] = 0; past[CURRENT(j)] = 1
}

/* The one way back to the pool. */
inline returnToPool(j) {
  close(j);
  if
  :: campaign != running -> job[j] = job_cancelled
  :: campaign == running && tries[j] == TRIES -> job[j] = review /* the model has no room for more */
  :: else ->
#ifdef REQUEUE_BEHIND_CURSOR
    job[j] = queued; printf("> lead %d: queued, the cursor stands at %d\n", j, cursor)
#else
    job[j] = waiting; printf("> lead %d: waits\n", j)
#endif
  fi;
  settleRun()
}

/* A call of token t ended and somebody knows how. Evidence, fenced by its token alone. */
inline learnEnd(j, t) {
  printf("> lead %d: the call of attempt %d has ended\n", OF(t));
  if
  :: open[j] && CURRENT(j) == t ->
    known[j]++;
    if
    :: close(j); job[j] = done; settleRun()
    :: retries[j] > 0 ->
      retries[j]--;
#ifdef RETRY_IGNORES_CANCEL
      close(j); job[j] = (tries[j] == TRIES -> review : waiting); printf("> lead %d: waits\n", j); settleRun()
#else
      returnToPool(j)
#endif
    fi
  :: !open[j] && absent[j] && CURRENT(j) == t -> /* believed absent, and no newer attempt: it is the lead's */
    known[j]++; absent[j] = false; job[j] = done; settleRun()
  :: else -> known[j]++
  fi
}

inline send(j, t) {
  printf("> lead %d: attempt %d is asked for, %d after its deadline\n", OF(t), past[t]);
  request[t] = in_flight; age[t] = 0
}

inline inTime(t) {
  printf("> lead %d: attempt %d is in time\n", OF(t))
}

proctype Worker(byte w) {
  byte j, t;
  bool go;
top:
  j = 0; t = 0; go = false;
  do
  :: campaign == cancelled || campaign == completed -> break
  :: atomic { !locked && campaign == running && (leased_by == WORKERS || !alive[leased_by] || (leased_by != w && takeovers > 0)) ->
      if
      :: leased_by != WORKERS && leased_by != w && alive[leased_by] -> takeovers--
      :: else
      fi;
      printf("> worker %d takes the lease\n", w);
#ifdef DIRECT_REQUEUE
      j = 0;
      do
      :: j < LEADS && open[j] && attempt[j] == dialing ->
        printf("> lead %d: attempt %d is given up, nothing was looked for\n", OF(CURRENT(j))); returnToPool(j); j++
      :: j < LEADS && !(open[j] && attempt[j] == dialing) -> j++
      :: else -> break
      od;
#endif
      leased_by = w; alive[w] = true }
  :: atomic { (campaign == running && leased_by == w && alive[w] && !locked
      && (job[0] == waiting || job[1] == waiting || cursor < LEADS)) -> own_left[w] = D }
    /* claim: the lock, then what is read and written under it */
    atomic { !locked -> locked = true;
      if
      :: campaign != running || leased_by != w -> go = false
      :: else -> go = true; printf("> worker %d has the lock and sees the run go on\n", w)
      fi }
    atomic {
      if
      :: !go
      :: go && job[0] == waiting -> j = 0
      :: go && job[1] == waiting -> j = 1
      :: go && cursor < LEADS -> j = cursor; cursor++
      :: go && !(job[0] == waiting || job[1] == waiting || cursor < LEADS) -> go = false
      fi;
      if
      :: go ->
        printf("> lead %d: attempt %d is claimed\n", j, tries[j]);
        assert(!stop_answered);      /* stop means stop */
        assert(!open[j] && tries[j] < TRIES && !IS_FINAL(j));
        tries[j]++; t = CURRENT(j); absent[j] = false;
        job[j] = in_progress; open[j] = true; attempt[j] = dialing;
        left[t] = D; past[t] = 0
      :: else
      fi;
      locked = false }
    if
    :: !go
    :: go && crashes > 0 -> atomic { crashes--; alive[w] = false; printf("> worker %d dies\n", w) }
    :: go -> goto dial
    fi
  od;
  goto end;

dial:
#ifdef NO_DEADLINE
  atomic { own_left[w] = 0; send(j, t) };
#else
#ifdef NO_T1
  if
  :: atomic { own_left[w] > 0 -> inTime(t) }
  :: own_left[w] == 0 -> goto neverSent
  fi;
  /* here the machine may sleep */
  atomic { own_left[w] = 0; send(j, t) };
#else
  atomic {
    if
    :: own_left[w] > 0 -> inTime(t); own_left[w] = 0; send(j, t)
    :: else -> goto neverSent
    fi }
#endif
#endif
  if
  :: crashes > 0 -> atomic { crashes--; alive[w] = false; printf("> worker %d dies\n", w) }; goto top
  :: atomic { (request[t] == live || request[t] == over) && !locked ->
      if
      :: open[j] && CURRENT(j) == t -> attempt[j] = placed
      :: !open[j] && absent[j] && CURRENT(j) == t ->
        absent[j] = false; open[j] = true; job[j] = in_progress; attempt[j] = placed
      :: else
      fi
    }
  :: atomic { request[t] != none && !locked ->        /* the answer is lost or late */
      printf("> lead %d: attempt %d has no answer\n", OF(t));
#ifdef RESEND
      printf("> lead %d: attempt %d is asked for again\n", OF(t));
      if
      :: request[t] == live || request[t] == over -> effects[j]++; printf("> lead %d: attempt %d calls\n", OF(t))
      :: else
      fi;
      assert(effects[j] <= 1 + known[j]);
#endif
      if
      :: open[j] && CURRENT(j) == t && attempt[j] == dialing -> attempt[j] = unknown
      :: else
      fi }
  fi;
  goto top;
neverSent:
  atomic { !locked ->
    if
    :: open[j] && CURRENT(j) == t && attempt[j] != placed -> returnToPool(j) /* of this one nothing can come any more */
    :: else
    fi };
  goto top;
end: skip
}

/* What a carrier may do with the request, and the call, of token t. */
#define CARRIER(t) \
  :: atomic { request[t] == in_flight && losses > 0 -> losses--; request[t] = dropped; age[t] = 0; \
      printf("> lead %d: attempt %d is lost on its way\n", OF(t)) } \
  :: atomic { request[t] == in_flight && MAY_TAKE_EFFECT(t) -> \
      request[t] = live; age[t] = 0; effects[(t) / TRIES]++; \
      printf("> lead %d: attempt %d calls\n", OF(t)); \
      assert(effects[(t) / TRIES] <= 1 + known[(t) / TRIES]) /* at most once */ } \
  :: atomic { request[t] == in_flight && !MAY_TAKE_EFFECT(t) -> request[t] = dropped; age[t] = 0 } \
  :: atomic { (request[t] == live || request[t] == over) && !listed[t] -> listed[t] = true; age[t] = 0; \
      printf("> lead %d: attempt %d is listed\n", OF(t)) } \
  :: atomic { request[t] == live && !locked -> request[t] = over; listed[t] = true; age[t] = 0; learnEnd((t) / TRIES, (t)) }

#ifdef EXPIRING
#define MAY_TAKE_EFFECT(t) (past[t] == 0)
#else
#define MAY_TAKE_EFFECT(t) true
#endif

active proctype Carrier() {
end:
  do
  CARRIER(0)
  CARRIER(1)
  CARRIER(2)
  CARRIER(3)
  od
}

/* Attempts past their deadline become unknown, whoever holds the run. */
#define EXPIRE(j) \
  :: atomic { open[j] && attempt[j] == dialing && left[CURRENT(j)] == 0 && past[CURRENT(j)] > 0 -> attempt[j] = unknown; \
      printf("> lead %d: attempt %d is past its deadline\n", OF(CURRENT(j))) }

#ifndef NO_REAPER
active proctype Reaper() {
end:
  do
  EXPIRE(0)
  EXPIRE(1)
  od
}
#endif

/* Asks the carrier's list; what it saw is believed in a later step. */
#ifdef NO_T3
#define GRACE_IS_OVER(t) true /* a clock that jumped says so */
#else
#define GRACE_IS_OVER(t) (past[t] >= GRACE)
#endif

#define ASK(x) \
  :: atomic { open[x] && attempt[x] == unknown && (listed[CURRENT(x)] || GRACE_IS_OVER(CURRENT(x))) -> \
      j = x; t = CURRENT(x); found = listed[t]; \
      printf("> lead %d: attempt %d is looked for, %d after its deadline, grace %d\n", OF(t), past[t], GRACE) }

active proctype Reconciler() {
  byte j, t;
  bool found;
end:
  do
  ASK(0) goto believe
  ASK(1) goto believe
  od;
believe:
  atomic { !locked ->
    if
    :: open[j] && CURRENT(j) == t && attempt[j] == unknown && found ->
      printf("> lead %d: attempt %d is found\n", OF(t)); attempt[j] = placed
    :: open[j] && CURRENT(j) == t && attempt[j] == unknown && !found ->
      printf("> lead %d: attempt %d is believed absent\n", OF(t)); returnToPool(j); absent[j] = (job[j] == waiting)
    :: else
    fi;
    j = 0; t = 0; found = false };
  goto end
}

/* A stop, at any moment or never. */
active proctype Person() {
  if
  :: skip
  :: atomic {
#ifndef CANCEL_WITHOUT_LOCK
      !locked ->
#endif
      if
      :: campaign == running ->
        campaign = cancelling;
        if
        :: job[0] == queued || job[0] == waiting -> job[0] = job_cancelled; absent[0] = false
        :: else
        fi;
        if
        :: job[1] == queued || job[1] == waiting -> job[1] = job_cancelled; absent[1] = false
        :: else
        fi;
#ifdef FINAL_WITH_OPEN
        campaign = cancelled; printf("> the run is cancelled\n");
#endif
        settleRun();
        stop_answered = true; printf("> the stop is answered\n")
      :: else
      fi }
  fi
}

/*
 * Time. Forbidden while a request or a call would get older than the carrier promises; possible only while it changes
 * an age that somebody still looks at.
 */
#ifdef NO_T2
#define TOO_OLD_IN_FLIGHT(t) false
#else
#define TOO_OLD_IN_FLIGHT(t) (request[t] == in_flight && age[t] >= R)
#endif
#ifdef NO_T4
#define TOO_OLD_UNLISTED(t) false
#else
#define TOO_OLD_UNLISTED(t) ((request[t] == live || request[t] == over) && !listed[t] && age[t] >= L)
#endif
#define FORBIDS(t) (TOO_OLD_IN_FLIGHT(t) || TOO_OLD_UNLISTED(t))
#define AGES(t) (open[(t) / TRIES] && CURRENT((t) / TRIES) == (t) && (left[t] > 0 || past[t] < GRACE))

#define GROW(t) \
    if \
    :: AGES(t) && left[t] > 0 -> left[t]-- ; past[t] = (left[t] == 0 -> 1 : 0) \
    :: AGES(t) && left[t] == 0 -> past[t]++ \
    :: else \
    fi; \
    if \
    :: (request[t] == in_flight && age[t] < R) || ((request[t] == live || request[t] == over) && !listed[t] && age[t] < L) -> age[t]++ \
    :: else \
    fi

active proctype Time() {
end:
  do
  :: atomic {
      (!FORBIDS(0) && !FORBIDS(1) && !FORBIDS(2) && !FORBIDS(3)
      && (own_left[0] > 0 || own_left[1] > 0 || AGES(0) || AGES(1) || AGES(2) || AGES(3))) ->
      own_left[0] = (own_left[0] > 0 -> own_left[0] - 1 : 0);
      own_left[1] = (own_left[1] > 0 -> own_left[1] - 1 : 0);
      GROW(0); GROW(1); GROW(2); GROW(3); printf("> time passes\n") }
  od
}

/* Nothing lost: where nothing can happen any more, the run is final. */
active proctype Auditor() {
end:
  atomic { timeout -> printf("> nothing can happen any more\n") };
  assert(campaign == completed || campaign == cancelled);
  assert(effects[0] == known[0] && effects[1] == known[1])
}

init {
  atomic { retries[0] = 1; run Worker(0); run Worker(1) }
}
