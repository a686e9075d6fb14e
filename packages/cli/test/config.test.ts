import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { REQUEST_TIMEOUT_MS } from '@carillon/carriers';
import { defaultLimits } from '@carillon/engine';
import { describe, expect, it } from 'vitest';
import { ALL_SETTINGS, LIMIT_SETTINGS } from '../src/config-table.ts';
import { ConfigError, type Environment, type Need, readConfig } from '../src/config.ts';
import { environmentHelp } from '../src/help.ts';
import { openDrivers } from '../src/installation.ts';

const DATABASE = 'postgres://app:hidden@db:5432/carillon';
const OWNER = 'postgres://owner:hidden@db:5432/carillon';
const SECRET = Buffer.alloc(32, 7);

function problemsOf(env: Environment, needs: Need[] = []): readonly string[] {
  try {
    readConfig(env, {}, needs);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

describe('the defaults', () => {
  it('are those of the engine, and a lock is never held as long as a lease', () => {
    const { config, warnings } = readConfig({});
    expect(config.limits).toEqual(defaultLimits);
    expect(config).toMatchObject({ host: '127.0.0.1', port: undefined, database_url: undefined });
    expect(config.idle_in_transaction_timeout_ms).toBe(20_000);
    expect(warnings).toEqual([]);
  });

  it('follow a shortened lease', () => {
    const { config } = readConfig({ CARILLON_LEASE_TTL_MS: '900' });
    expect(config.limits.lease_ttl_ms).toBe(900);
    expect(config.idle_in_transaction_timeout_ms).toBe(600);
  });

  it('hold for a variable that is set to nothing', () => {
    const { config } = readConfig({ CARILLON_LEASE_TTL_MS: '', CARILLON_PORT: '', DATABASE_URL: '' });
    expect(config.limits.lease_ttl_ms).toBe(defaultLimits.lease_ttl_ms);
    expect(config).toMatchObject({ port: undefined, database_url: undefined });
  });
});

describe('the table', () => {
  it('has each limit of the engine under its own name, with its default, and takes it', () => {
    expect(LIMIT_SETTINGS.map(({ limit }) => limit).toSorted()).toEqual(Object.keys(defaultLimits).toSorted());
    for (const { limit, setting } of LIMIT_SETTINGS) {
      expect(setting.name).toBe(`CARILLON_${limit.toUpperCase()}`);
      expect(setting.default).toBe(String(defaultLimits[limit]));
      // The default itself must be allowed, or nobody could write it down.
      expect(problemsOf({ [setting.name]: setting.default })).toEqual([]);
    }
  });

  it(
    'has how long a carrier is waited for, which the drivers are told',
    async () => {
      expect(readConfig({}).config.carrier_request_timeout_ms).toBe(REQUEST_TIMEOUT_MS);
      expect(environmentHelp()).toContain(`CARILLON_CARRIER_REQUEST_TIMEOUT_MS (ms; default: ${REQUEST_TIMEOUT_MS})`);
      expect(problemsOf({ CARILLON_CARRIER_REQUEST_TIMEOUT_MS: '0' })).toHaveLength(1);
      const { config } = readConfig({ CARILLON_CARRIER_REQUEST_TIMEOUT_MS: '100' });
      const silent = createServer((socket) => void socket.on('error', () => {}).resume());
      await once(silent.listen(0, '127.0.0.1'), 'listening');
      const base_url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
      const credentials = { driver: 'twilio', base_url, account_sid: 'AC1', auth_token: 'token' };
      const asked = openDrivers(config).get('twilio')?.fetchCall(credentials, 'CA1');
      expect(await asked).toEqual({ kind: 'error', cause: 'response_timeout' });
      silent.close();
      // By default it would be waited for longer than that.
    },
    REQUEST_TIMEOUT_MS / 2,
  );

  it('has the names that others rely on', () => {
    const names = ALL_SETTINGS.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(RELIED_ON));
    expect(new Set(names).size).toBe(names.length);
  });

  it('is what the help prints, with units and defaults', () => {
    const help = environmentHelp();
    for (const { name } of ALL_SETTINGS) expect(help).toContain(`  ${name} (`);
    expect(help).toContain('CARILLON_LEASE_TTL_MS (ms; default: 30000)');
    expect(Math.max(...help.split('\n').map((line) => line.length))).toBeLessThanOrEqual(96);
  });
});

const RELIED_ON = [
  'DATABASE_URL',
  'CARILLON_OWNER_DATABASE_URL',
  'CARILLON_DATA_DIR',
  'CARILLON_HOST',
  'CARILLON_PORT',
  'CARILLON_PUBLIC_URL',
  'CARILLON_SECRET',
  'CARILLON_LEASE_TTL_MS',
  'CARILLON_LOG_LEVEL',
  'CARILLON_DIAL_DEADLINE_MS',
  'CARILLON_CARRIER_EFFECT_DELAY_MS',
  'CARILLON_CARRIER_LISTING_DELAY_MS',
  'CARILLON_RECONCILE_MARGIN_MS',
  'CARILLON_RING_TIMEOUT_MS',
  'CARILLON_CALL_MAX_MS',
  'CARILLON_POLL_AFTER_MS',
];

describe('wrong values', () => {
  it('are said without the password in them', () => {
    const [problem] = problemsOf({ CARILLON_PUBLIC_URL: 'https://someone:hidden@example.com' });
    expect(problem).toMatch(/^CARILLON_PUBLIC_URL is "https:\/\/someone:\[redacted\]@example.com": expected/);
  });

  it('are named all at once, each with what is expected', () => {
    const problems = problemsOf({
      DATABASE_URL: 'db.example.com',
      CARILLON_PORT: '99999',
      CARILLON_LEASE_TTL_MS: '30s',
      CARILLON_LOG_LEVEL: 'loud',
      CARILLON_PUBLIC_URL: 'calls.example.com',
      CARILLON_SECRET: 'too short',
    });
    expect(problems).toHaveLength(6);
    expect(problems.toSorted()).toMatchInlineSnapshot(`
      [
        "CARILLON_LEASE_TTL_MS is "30s": expected a whole number of milliseconds from 100 to 3600000",
        "CARILLON_LOG_LEVEL is "loud": expected one of debug, info, warn, error, silent",
        "CARILLON_PORT is "99999": expected a whole number from 0 to 65535",
        "CARILLON_PUBLIC_URL is "calls.example.com": expected a URL without query or password, such as https://calls.example.com",
        "CARILLON_SECRET is not valid: expected 32 bytes as base64 or hex; "openssl rand -base64 32" makes some",
        "DATABASE_URL is not valid: expected a URL such as postgres://user:password@host:5432/database",
      ]
    `);
  });

  it('are not quoted where they may hold a password', () => {
    const [problem] = problemsOf({ DATABASE_URL: 'mysql://user:hidden@db/x' });
    expect(problem).toContain('DATABASE_URL');
    expect(problem).not.toContain('hidden');
  });

  it.each(['0.5', '-1', '1e3', '0x10', ' ', '٣', '1,000'])('such as %j are no whole number', (text) => {
    expect(problemsOf({ CARILLON_LEASE_TTL_MS: text })).toHaveLength(1);
  });

  it('on the command line are called by the option', () => {
    expect(() => readConfig({ CARILLON_PORT: '1' }, { port: 'x' })).toThrow('--port is "x"');
    expect(readConfig({ CARILLON_PORT: '1' }, { port: '2' }).config.port).toBe(2);
  });
});

describe('a secret', () => {
  it.each([
    ['base64', SECRET.toString('base64')],
    ['base64url', SECRET.toString('base64url')],
    ['hex', SECRET.toString('hex')],
  ])('may be given as %s', (_, text) => {
    expect(readConfig({ CARILLON_SECRET: text }).config.secret).toEqual(SECRET);
  });

  it.each([31, 33, 16])('of %d bytes is refused', (bytes) => {
    expect(problemsOf({ CARILLON_SECRET: Buffer.alloc(bytes, 1).toString('base64') })).toHaveLength(1);
    expect(problemsOf({ CARILLON_SECRET: Buffer.alloc(bytes, 1).toString('hex') })).toHaveLength(1);
  });

  it('with a stray letter is refused, not read in part', () => {
    expect(problemsOf({ CARILLON_SECRET: `${SECRET.toString('base64').slice(0, -1)}!` })).toHaveLength(1);
  });
});

describe('values that contradict each other', () => {
  it.each([
    [
      { CARILLON_LEASE_TTL_MS: '1000', CARILLON_IDLE_IN_TRANSACTION_TIMEOUT_MS: '1000' },
      'must be below CARILLON_LEASE',
    ],
    [{ CARILLON_CLAIM_AHEAD_MS: '200', CARILLON_DIAL_DEADLINE_MS: '200' }, 'must be below CARILLON_DIAL'],
    [{ CARILLON_LANE_HALT_FIRST_MS: '50', CARILLON_LANE_HALT_LONGEST_MS: '49' }, 'must not be above'],
    [{ DATABASE_URL: DATABASE, CARILLON_OWNER_DATABASE_URL: DATABASE }, 'a login of its own'],
  ])('%j', (env, why) => {
    expect(problemsOf(env)).toEqual([expect.stringContaining(why)]);
  });
});

describe('what a command needs', () => {
  const serving: Need[] = ['database', 'secret', 'public_url'];

  it('is nothing with the embedded database', () => {
    expect(problemsOf({}, [...serving, 'owner'])).toEqual([]);
  });

  it('is named all at once when it is missing', () => {
    const problems = problemsOf({ DATABASE_URL: DATABASE, CARILLON_HOST: '0.0.0.0' }, [...serving, 'owner']);
    expect(problems).toEqual([
      expect.stringContaining('CARILLON_OWNER_DATABASE_URL is not set'),
      expect.stringContaining('CARILLON_SECRET is not set'),
      expect.stringContaining('CARILLON_PUBLIC_URL is not set and CARILLON_HOST is "0.0.0.0"'),
    ]);
  });

  it('is no second problem where the value is there and wrong', () => {
    expect(problemsOf({ DATABASE_URL: DATABASE, CARILLON_SECRET: 'x' }, serving)).toEqual([
      expect.stringContaining('CARILLON_SECRET is not valid'),
    ]);
  });

  it('is the application’s login, not only the owner’s', () => {
    expect(problemsOf({ CARILLON_OWNER_DATABASE_URL: OWNER }, serving)).toEqual([
      expect.stringContaining('DATABASE_URL is not set and CARILLON_OWNER_DATABASE_URL is'),
    ]);
    // To migrate, the owner alone will do.
    expect(problemsOf({ CARILLON_OWNER_DATABASE_URL: OWNER }, ['owner'])).toEqual([]);
  });
});

describe('a misspelt name', () => {
  it.each([
    ['CARILLON_LEASE_TTL', 'CARILLON_LEASE_TTL_MS'],
    ['CARILLON_PORTS', 'CARILLON_PORT'],
    ['CARILLON_DATABASE_URL', 'CARILLON_OWNER_DATABASE_URL'],
    ['CARILLON_RING_TIME_OUT_MS', 'CARILLON_RING_TIMEOUT_MS'],
  ])('%s is reported beside %s', (written, meant) => {
    const { warnings } = readConfig({ [written]: '1' });
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`^${written} is not .* did you mean ${meant}\\?$`))]);
  });

  it('is reported as well where something else is wrong', () => {
    expect(() => readConfig({ CARILLON_PRT: '1', CARILLON_PORT: 'x' })).toThrow(
      expect.objectContaining({ warnings: [expect.stringContaining('CARILLON_PRT')] }),
    );
  });

  it('of another program is none of ours', () => {
    expect(readConfig({ PATH: '/bin', CARILLON_TEST_SERVER_URL: 'x', carillon_port: '1' }).warnings).toEqual([]);
  });
});
