import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', './test/support/closing-line.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Patience costs nothing where a test passes, and a machine may give us a fifth of itself for a while.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
    // Only for what ran out of time, and named in the end: see the file.
    retry: 1,
    setupFiles: ['./test/support/second-try.ts'],
  },
});
