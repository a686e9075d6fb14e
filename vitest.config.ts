import { defineConfig } from 'vitest/config';

const shared = {
  pool: 'forks',
  testTimeout: 30_000,
  hookTimeout: 60_000,
  // A test that asserts nothing passes for ever, so it fails here.
  expect: { requireAssertions: true },
  // Many tests kill processes and watch clocks. Where nobody can look again, one that failed because the machine was busy
  // for a moment gets another try; the report says which did. At home each failure counts.
  retry: process.env.CI ? 2 : 0,
} as const;

export default defineConfig({
  test: {
    // Only here, and not inherited below: the projects see what it provides, and it runs once instead of once each.
    globalSetup: ['test/support/global-setup.ts'],
    projects: [
      {
        extends: false,
        test: {
          ...shared,
          name: 'packages',
          include: ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['**/node_modules/**', 'test/system/**'],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: false,
        test: {
          ...shared,
          // Each of these starts many processes: after everything else, and one file at a time.
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
