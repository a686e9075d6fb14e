import { describe, expect, it, onTestFinished } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createOutput, duration, fitParts, type Frame, table } from '../src/output.ts';
import { collector } from './support/cli.ts';

const frame: Frame = { title: 'Run 7', progress: 0.5, figures: '5/10  50 %', below: [['3 live', '2 calls/s'], []] };

describe('without --json', () => {
  it('says to standard output, warns on standard error, and prints no object', () => {
    const [stdout, stderr] = [collector(), collector()];
    const output = createOutput({ stdout, stderr, json: false });
    output.say('done');
    output.warn('careful');
    output.result({ ok: true });
    expect([stdout.text(), stderr.text()]).toEqual(['done\n', 'careful\n']);
  });
});

describe('with --json', () => {
  it('leaves standard output to the object', () => {
    const [stdout, stderr] = [collector(), collector()];
    const output = createOutput({ stdout, stderr, json: true });
    output.say('done');
    output.result({ ok: true, name: 'שלום' });
    expect([stdout.text(), stderr.text()]).toEqual(['{"ok":true,"name":"שלום"}\n', 'done\n']);
  });
});

describe('a display', () => {
  it('does not move where there is no terminal', () => {
    const stdout = collector();
    const output = createOutput({ stdout, stderr: collector(), json: false });
    expect(output.moves).toBe(false);
    output.display(() => frame)();
    expect(stdout.text()).toBe('');
  });

  it('does not move on a terminal that can not, nor on standard output when that is for an object', () => {
    const terminal = { columns: 80 };
    const dumb = createOutput({ stdout: collector(terminal), stderr: collector(), json: false, dumb: true });
    const json = createOutput({ stdout: collector(terminal), stderr: collector(), json: true });
    expect([dumb.moves, json.moves]).toEqual([false, false]);
  });

  it('draws a bar that fits, with lines that are said meanwhile above it', async () => {
    const stdout = collector({ columns: 60 });
    const output = createOutput({ stdout, stderr: collector(), json: false });
    const stop = output.display(() => frame);
    onTestFinished(() => stop());
    await until(() => stdout.text().includes('50 %'), { deadline_ms: 5_000 });
    output.say('a line above');
    await until(() => stdout.text().includes('a line above'), { deadline_ms: 5_000 });
    const drawn = stdout.text();
    expect(drawn).toContain('█');
    const bar = /Run 7 {2}([█░]+) {2}5\/10 {2}50 %/.exec(drawn)?.[1] ?? '';
    expect(bar.length).toBe(60 - 'Run 7'.length - '5/10  50 %'.length - 7);
    expect(drawn).toContain('  3 live · 2 calls/s');
  });

  it('gives the cursor back at its end, and says on what was still to be said', () => {
    const stdout = collector({ columns: 60 });
    const output = createOutput({ stdout, stderr: collector(), json: false });
    const before = process.listenerCount('exit');
    const stop = output.display(() => frame);
    output.say('the last word');
    stop();
    expect(stdout.text()).toContain('the last word');
    expect(stdout.text().lastIndexOf('\u001B[?25h')).toBeGreaterThan(stdout.text().lastIndexOf('\u001B[?25l'));
    expect(process.listenerCount('exit')).toBe(before);
  });

  it('leaves the bar out where there is no room for one', async () => {
    const stdout = collector({ columns: 24 });
    const stop = createOutput({ stdout, stderr: collector(), json: false }).display(() => frame);
    onTestFinished(() => stop());
    await until(() => stdout.text().includes('50 %'), { deadline_ms: 5_000 });
    expect(stdout.text()).not.toContain('█');
  });
});

describe('texts', () => {
  it.each([
    [11, '  one'],
    [12, '  one · two'],
    [80, '  one · two · three'],
    [5, ''],
  ])('in %d columns are the parts that fit', (columns, line) => {
    expect(fitParts(['one', 'two', 'three'], columns)).toBe(line);
  });

  it('of a table stand under each other, colours not counted', () => {
    expect(
      table([
        ['a', 'b'],
        ['\u001B[32mlonger\u001B[39m', 'c'],
        ['', 'd'],
      ]),
    ).toEqual(['a       b', '\u001B[32mlonger\u001B[39m  c', '        d']);
  });

  it.each([
    [40, '0.0 s'],
    [9_949, '9.9 s'],
    [12_300, '12 s'],
    [59_600, '1 min 0 s'],
    [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'],
  ])('%d ms is %s', (ms, text) => {
    expect(duration(ms)).toBe(text);
  });
});
