import { defineConfig } from 'vitest/config';

/** What takes minutes: `npm run test:torture`. One file after another, so that none starves the next. */
export default defineConfig({
  test: {
    include: ['test/torture/**/*.torture.ts'],
    reporters: ['default', './test/support/closing-line.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 3_600_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
  },
});
