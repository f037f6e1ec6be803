/**
 * The command line: every command with the parts that it works on. What `explain` says is what delivery does.
 *
 * Only the command that was asked for is loaded, so that a short answer comes in a short time.
 */
import './shared/node-version.ts';
import { createProgram, runProgram } from './cli/program.ts';

type Command = Parameters<typeof createProgram>[0][number];

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => {
    const [{ runCommand }, { loadConfigApart }, { start }] = await Promise.all([
      import('./cli/run.ts'),
      import('./config/load-apart.ts'),
      import('./assembly/run.ts'),
    ]);
    return runCommand({ loadConfig: loadConfigApart, start });
  },
  reload: async () => {
    const [{ reloadCommand }, { loadConfig }, { askRelay }] = await Promise.all([
      import('./cli/reload.ts'),
      import('./config/load.ts'),
      import('./assembly/control.ts'),
    ]);
    return reloadCommand({ loadConfig, askRelay: ({ state }) => askRelay(state, 'reload') });
  },
  check: async () => {
    const [{ checkCommand }, { loadConfig }, { generalProbes }, { stageProbes }] = await Promise.all([
      import('./cli/check.ts'),
      import('./config/load.ts'),
      import('./cli/probes.ts'),
      import('./assembly/probes.ts'),
    ]);
    return checkCommand({ loadConfig, probes: [...generalProbes, ...stageProbes] });
  },
  explain: async () => {
    const [{ explainCommand }, { openExplainer }] = await Promise.all([
      import('./cli/explain.ts'),
      import('./assembly/explainer.ts'),
    ]);
    return explainCommand(openExplainer);
  },
  verify: async () => {
    const [{ verifyCommand }, { judgeChain }, { judgeRecords, parseTlsa }] = await Promise.all([
      import('./cli/verify.ts'),
      import('./policy/dane/match.ts'),
      import('./policy/dane/tlsa.ts'),
    ]);
    return verifyCommand({ parseTlsa, judgeRecords, judgeChain });
  },
  tlsa: async () => (await import('./cli/tlsa.ts')).tlsaCommand(),
  pin: async () => (await import('./cli/pin.ts')).pinCommand(),
  queue: async () => {
    const [{ queueCommand }, { openQueue }] = await Promise.all([
      import('./cli/queue.ts'),
      import('./assembly/queue.ts'),
    ]);
    return queueCommand({ openStore: openQueue });
  },
  tlsrpt: async () => {
    const [{ tlsrptCommand }, { openReportDesk }] = await Promise.all([
      import('./cli/tlsrpt.ts'),
      import('./assembly/tls-report-desk.ts'),
    ]);
    return tlsrptCommand({ openDesk: openReportDesk });
  },
  exceptions: async () => {
    const [{ exceptionsCommand }, { openExceptions }, { moment, pin }] = await Promise.all([
      import('./cli/exceptions.ts'),
      import('./assembly/exceptions.ts'),
      import('./config/notation.ts'),
    ]);
    return exceptionsCommand({ open: openExceptions, readMoment: moment.read, readPin: pin.read });
  },
  dkim: async () => {
    const [{ dkimCommand }, { openKeys }] = await Promise.all([
      import('./cli/dkim.ts'),
      import('./assembly/key-desk.ts'),
    ]);
    return dkimCommand({ openDesk: openKeys });
  },
  lab: async () => (await import('./cli/lab.ts')).labCommand(),
};

const [, , asked = ''] = process.argv;
const needed = Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS);
const commands = await Promise.all(needed.flatMap((name) => COMMANDS[name]?.() ?? []));
await runProgram(createProgram(commands), process.argv);
