import type { EngineConfig } from '../config/engine.ts';
import { runSupervisor } from '../engine/supervisor/supervisor.ts';
import { createLogger } from '../telemetry/log.ts';

/** `lamina engine`: the supervisor and nothing else, so that its process stays small and hardly ever changes. */
export async function engine({ runDir, idleExitSeconds, logLevel }: EngineConfig, stop: AbortSignal): Promise<number> {
  await runSupervisor({ runDir, idleExitSeconds, logger: createLogger(logLevel), signal: stop });
  return 0;
}
