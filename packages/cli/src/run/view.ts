import { isFinalRun, type Run } from '@carillon/contract';
import { count, duration, type Frame, type Output, type Style } from '../output.ts';
import type { Split } from './outcomes.ts';

/** How the outcomes are called and coloured, in the order in which they are shown. */
const OUTCOME_WORDS: Readonly<Record<string, readonly [string, Style]>> = {
  completed: ['answered', 'green'],
  no_answer: ['no answer', 'yellow'],
  busy: ['busy', 'yellow'],
  voicemail: ['voicemail', 'cyan'],
  failed: ['failed', 'red'],
  rejected: ['refused', 'red'],
  cancelled: ['cancelled', 'dim'],
  skipped: ['skipped', 'dim'],
  needs_review: ['to review', 'red'],
};

interface Moment {
  at_ms: number;
  started: number;
  finished: number;
}

/** Over how long calls per second and the time left are averaged. */
const WINDOW_MS = 8_000;

/** One run as it goes on, for a display, for plain lines, and for the sentence at its end. */
export interface RunView {
  /** `now_ms` is monotonic. */
  observe(run: Run, split: Split, now_ms: number): void;
  frame(): Frame;
  /** All of it on one line. */
  line(): string;
}

export function createRunView(output: Pick<Output, 'paint'>): RunView {
  let run: Run | undefined;
  let split: Split = new Map();
  const moments: Moment[] = [];

  const rates = () => {
    const [first, last] = [moments[0], moments.at(-1)];
    if (!first || !last || last.at_ms - first.at_ms < 500) return { starts_per_s: 0, ends_per_s: 0 };
    const span_s = (last.at_ms - first.at_ms) / 1_000;
    return {
      starts_per_s: Math.max(0, last.started - first.started) / span_s,
      ends_per_s: Math.max(0, last.finished - first.finished) / span_s,
    };
  };
  const figures = (now: Run): string[] => {
    const { starts_per_s, ends_per_s } = rates();
    const left = now.total_leads - now.cursor_position;
    const news = standing(now);
    return [
      ...(news ? [output.paint('yellow', news)] : []),
      `${count(now.in_progress)} live`,
      ...(starts_per_s > 0 ? [`${perSecond(starts_per_s)} calls/s`] : []),
      ...(ends_per_s > 0 && left > 0 ? [`${duration((left / ends_per_s) * 1_000)} left`] : []),
      ...(now.waiting > 0 ? [`${count(now.waiting)} waiting`] : []),
    ];
  };
  return {
    observe(seen, outcomes, now_ms) {
      run = seen;
      split = outcomes;
      moments.push({ at_ms: now_ms, started: seen.cursor_position + seen.in_progress, finished: seen.cursor_position });
      while (moments[0] && now_ms - moments[0].at_ms > WINDOW_MS) moments.shift();
    },
    frame() {
      if (!run) return { title: 'Run', progress: 0, figures: '', below: [[], []] };
      return {
        title: `Run ${run.run_id}`,
        progress: progressOf(run),
        figures: `${doneOf(run)}  ${percentOf(run)}`,
        below: [figures(run), splitWords(split, output)],
      };
    },
    line() {
      if (!run) return '';
      const words = splitWords(split, output);
      const outcomes = words.length > 0 ? `; ${words.join(', ')}` : '';
      return `Run ${run.run_id}: ${doneOf(run)} (${percentOf(run)}), ${figures(run).join(', ')}${outcomes}`;
    },
  };
}

function progressOf(run: Run): number {
  return run.total_leads === 0 ? 0 : run.cursor_position / run.total_leads;
}

function doneOf(run: Run): string {
  return `${count(run.cursor_position)}/${count(run.total_leads)}`;
}

/** Rounded down: 100 % is said of a run that is done, and of no other. */
function percentOf(run: Run): string {
  return `${run.total_leads === 0 ? 0 : Math.floor((run.cursor_position * 100) / run.total_leads)} %`;
}

function perSecond(rate: number): string {
  return rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}

/** What there is to say of a run that is not simply going on. */
function standing(run: Run): string | null {
  if (run.status === 'running') return run.waiting_reason;
  if (run.status === 'pending') return run.waiting_reason ?? 'pending';
  return isFinalRun(run.status) ? run.status : (run.waiting_reason ?? run.status);
}

export function splitWords(split: Split, output: Pick<Output, 'paint'>): string[] {
  const known = Object.entries(OUTCOME_WORDS).filter(([outcome]) => split.has(outcome));
  const others = [...split.keys()].filter((outcome) => !(outcome in OUTCOME_WORDS));
  return [
    ...known.map(([outcome, [word, style]]) => `${output.paint(style, word)} ${count(split.get(outcome) ?? 0)}`),
    ...others.map((outcome) => `${outcome} ${count(split.get(outcome) ?? 0)}`),
  ];
}
