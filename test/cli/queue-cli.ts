/** The `queue` command as `dane-relay` has it. Run as a program, it works on the folder that QUEUE_FOLDER names. */
import { createProgram, runProgram } from '../../src/cli/program.ts';
import { queueCommand } from '../../src/cli/queue.ts';
import { openSqliteStore } from '../../src/queue/sqlite.ts';

export async function runQueue(folder: string, argv: readonly string[]): Promise<void> {
  const openStore = async (configFile?: string) => {
    if (configFile === 'wrong.yaml') {
      throw Object.assign(new Error('wrong.yaml:1:1: this is no configuration'), { exitCode: 2 });
    }
    return openSqliteStore({ folder, mode: 'visitor' });
  };
  await runProgram(createProgram([queueCommand({ openStore })]), argv);
}

if (import.meta.main) await runQueue(process.env['QUEUE_FOLDER'] ?? '', process.argv);
