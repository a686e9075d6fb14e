// Runs before `npm start` and `npm test`, under whichever Node the machine has (20 or later) and with nothing
// installed: so plain JavaScript, Node's own modules only. Brings node_modules to what package-lock.json says, and
// makes sure that the Node 26 which came with it runs. Everything is said on standard error: standard output belongs
// to the command that follows (`npm start --silent -- --json`).
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const node_major = 26;
const node_to_install_major = 20;
const lock_heartbeat_ms = 2_000;
const lock_stale_ms = 30_000;
const lock_poll_ms = 250;
const lock_wait_ms = 900_000;
const npm_stop_ms = 3_000;

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const modules = path.join(root, 'node_modules');
const lockParent = path.join(root, '.carillon');
const lock = path.join(lockParent, 'install.lock');
const lockOwner = path.join(lock, 'owner');
const me = `${os.hostname()} ${process.pid}`;

/** A failure that a person can act on: printed as one sentence, without a stack. */
class InstallError extends Error {}

/** @param {string} line */
const say = (line) => process.stderr.write(`carillon: ${line}\n`);

/** @param {number} since */
const secondsSince = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/**
 * The `packages` of a lockfile, or undefined when the file is missing or unreadable.
 * @param {string} file
 * @returns {Record<string, {version?: string, integrity?: string, optional?: boolean, os?: string[], cpu?: string[], libc?: string[]}> | undefined}
 */
function lockedPackages(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

const libc = () => {
  if (process.platform !== 'linux') return undefined;
  const header = /** @type {{header?: {glibcVersionRuntime?: string}}} */ (process.report.getReport()).header;
  return header?.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
};

/**
 * Why node_modules is not what package-lock.json asks for, or undefined when it is. npm writes
 * node_modules/.package-lock.json as the last step of an install, so an interrupted one has none; comparing contents
 * instead of times survives a fresh checkout, a copied folder, and an install that was made by hand.
 * @returns {string | undefined}
 */
function whatIsMissing() {
  const wanted = lockedPackages(path.join(root, 'package-lock.json'));
  if (wanted === undefined) throw new InstallError('package-lock.json is missing or damaged: restore it with git.');
  const present = lockedPackages(path.join(modules, '.package-lock.json'));
  if (present === undefined) return 'nothing is installed yet';
  for (const name of Object.keys(present)) {
    if (wanted[name] === undefined) return `${name} is no longer asked for`;
  }
  const here = { os: process.platform, cpu: process.arch, libc: libc() };
  for (const [name, want] of Object.entries(wanted)) {
    const have = present[name];
    if (name === '' || (have?.version === want.version && have?.integrity === want.integrity)) continue;
    // An optional package is left out where it does not fit the machine, and, without a word, when its download
    // failed. Only those that name their machine can be told apart.
    const fits = /** @type {const} */ (['os', 'cpu', 'libc']).every((k) => want[k]?.includes(here[k] ?? '') ?? true);
    const namesMachine = want.os !== undefined || want.cpu !== undefined;
    if (have !== undefined || !want.optional || (namesMachine && fits)) return `${name} has changed or is missing`;
  }
  return undefined;
}

/** @returns {string} `host pid` of the lock's holder; empty when there is none, or before it has signed */
function owner() {
  try {
    return readFileSync(lockOwner, 'utf8');
  } catch {
    return '';
  }
}

/**
 * A holder shows that it lives by touching the lock; one on this machine is also known to be dead at once when its
 * process is gone, so that a start after a kill -9 need not wait.
 */
function lockIsStale() {
  const stat = statSync(lock, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  if (Date.now() - stat.mtimeMs > lock_stale_ms) return true;
  const [host, pid] = owner().split(' ');
  if (host !== os.hostname()) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}

/** @param {unknown} error */
const codeOf = (error) => (error instanceof Error && 'code' in error ? error.code : undefined);

/** @param {string} dir @returns {boolean} whether this process made the directory */
function makeDir(dir) {
  try {
    mkdirSync(dir);
    return true;
  } catch (error) {
    // ENOENT: another process has just cleared away the parent, and the next round makes it again.
    if (codeOf(error) === 'EEXIST' || codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Only one process at a time may judge a lock stale and remove it: otherwise the second would remove the first's. */
function removeStaleLock() {
  const guard = `${lock}.removing`;
  if (!makeDir(guard)) return;
  try {
    if (lockIsStale()) rmSync(lock, { recursive: true, force: true });
  } finally {
    rmdirSync(guard);
  }
}

function touchLock() {
  if (owner() === me) utimesSync(lock, new Date(), new Date());
}

function releaseLock() {
  // It is another's by now if this process was stopped for longer than a lock lives.
  if (owner() === me) rmSync(lock, { recursive: true, force: true });
  try {
    rmdirSync(lockParent);
  } catch {
    // It has other things in it, or is gone: both are fine.
  }
}

/**
 * Waits until this process holds the lock, or until another one has done the work.
 * @returns {Promise<'held' | 'done by another'>}
 */
async function takeLock() {
  const since = Date.now();
  let told = false;
  while (Date.now() - since < lock_wait_ms) {
    mkdirSync(lockParent, { recursive: true });
    if (makeDir(lock)) {
      writeFileSync(lockOwner, me);
      if (whatIsMissing() !== undefined) return 'held';
      releaseLock();
      return 'done by another';
    }
    if (lockIsStale()) removeStaleLock();
    else if (!told) {
      say('another install is under way in this folder; waiting for it.');
      told = true;
    }
    await sleep(lock_poll_ms);
  }
  throw new InstallError(`waited ${lock_wait_ms / 60_000} minutes for another install: if none runs, remove ${lock}*.`);
}

/**
 * npm says which file it runs from: running that file with npm's own Node needs no shell, on Windows too.
 * @returns {{command: string, args: string[], shell: boolean}}
 */
function npmCommand() {
  const cli = process.env.npm_execpath;
  if (cli !== undefined && path.basename(cli) === 'npm-cli.js') {
    return { command: process.env.npm_node_execpath ?? process.execPath, args: [cli], shell: false };
  }
  return { command: 'npm', args: [], shell: process.platform === 'win32' };
}

/**
 * @param {string[]} options
 * @returns {Promise<number>} its exit code
 */
async function npmCi(options) {
  const { command, args, shell } = npmCommand();
  const child = spawn(command, [...args, 'ci', ...options], { cwd: root, stdio: ['ignore', 2, 2], shell });
  /** @type {NodeJS.Signals | undefined} */
  let stoppedBy;
  /** @param {NodeJS.Signals} signal */
  const stop = (signal) => {
    stoppedBy = signal;
    child.kill(signal);
    // npm may go on for long; what it leaves half-done is seen at the next start.
    setTimeout(() => child.kill('SIGKILL'), npm_stop_ms).unref();
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const heartbeat = setInterval(touchLock, lock_heartbeat_ms);
  try {
    const [code, signal] = await new Promise((resolve, reject) => {
      child.once('error', (error) => reject(new InstallError(`npm could not be started: ${error.message}.`)));
      child.once('exit', (...how) => resolve(how));
    });
    const ending = stoppedBy ?? signal;
    if (ending !== null) throw new InstallError(`the install was stopped by ${ending}; run the command again.`);
    return code;
  } finally {
    clearInterval(heartbeat);
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/**
 * First without asking again for what lies in npm's cache, which saves a question for each package; but what the cache
 * says about a package may be older than the lockfile, and then npm gives up instead of asking.
 */
async function install() {
  const quiet = ['--no-audit', '--no-fund'];
  if ((await npmCi([...quiet, '--prefer-offline', '--loglevel=silent'])) === 0) return;
  // --loglevel=error hides the warning that the machine's own Node is older than some package likes: that package
  // will run on the Node 26 that is being installed.
  const code = await npmCi([...quiet, '--loglevel=error']);
  if (code !== 0) {
    const hint = 'Its message stands above. Without a network, npm needs its cache.';
    throw new InstallError(`npm ci failed with exit code ${code}. ${hint}`);
  }
}

async function bringUpToDate() {
  if (whatIsMissing() === undefined && !existsSync(lock)) return;
  if ((await takeLock()) === 'done by another') return;
  try {
    const since = Date.now();
    const first = !existsSync(modules);
    say(first ? 'installing what is needed, Node 26 among it (npm ci) …' : 'updating what is installed (npm ci) …');
    await install();
    say(`installed in ${secondsSince(since)}.`);
  } finally {
    releaseLock();
  }
}

/** @param {string} version such as v26.10.0 */
const majorOf = (version) => Number(/^v(\d+)\./.exec(version)?.[1] ?? 0);

/** @param {string} version */
const isNewEnough = (version) => majorOf(version) >= node_major;

const windows = process.platform === 'win32';
const nodeBin = path.join(modules, '.bin', windows ? 'node.cmd' : 'node');

/**
 * Makes node_modules/.bin/node where npm has not: npm 10 removes that link again together with the platform packages
 * that do not fit this machine, since they all bear a command of the same name.
 */
function linkNode() {
  if (existsSync(nodeBin)) return;
  const { optionalDependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const program = Object.keys(optionalDependencies)
    .map((name) => path.join('..', name, 'bin', windows ? 'node.exe' : 'node'))
    .find((file) => existsSync(path.join(modules, '.bin', file)));
  if (program === undefined) return;
  rmSync(nodeBin, { force: true });
  if (windows) return writeFileSync(nodeBin, `@"%~dp0${program}" %*\r\n`);
  try {
    symlinkSync(program, nodeBin);
  } catch (error) {
    // Another start was first.
    if (codeOf(error) !== 'EEXIST') throw error;
  }
}

/**
 * The commands that follow find `node` by PATH, where npm has put node_modules/.bin first. A Node there that cannot
 * run (musl) would break them without a clear word, and this script at its next start as well: it is taken away.
 */
function checkNode() {
  linkNode();
  const present = existsSync(nodeBin);
  if (present && realpathSync(nodeBin) === realpathSync(process.execPath)) return;
  const probe = spawnSync(nodeBin, ['--version'], { encoding: 'utf8', shell: windows });
  if (probe.status === 0 && isNewEnough(probe.stdout.trim())) return;
  if (present) rmSync(nodeBin, { force: true });
  if (isNewEnough(process.version)) return;
  const machine = [process.platform, process.arch, libc()].filter(Boolean).join(' ');
  throw new InstallError(
    `Carillon runs on Node ${node_major} or later. The one that npm installs does not run on this machine (${machine}), ` +
      `and the machine's own is ${process.version}: please install Node ${node_major} yourself and run the command again.`,
  );
}

try {
  if (majorOf(process.version) < node_to_install_major) {
    throw new InstallError(`Node ${node_to_install_major} or later is needed; this machine has ${process.version}.`);
  }
  if (process.argv.includes('--link-only')) linkNode();
  else {
    await bringUpToDate();
    checkNode();
  }
} catch (error) {
  if (!(error instanceof InstallError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
