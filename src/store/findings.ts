import { type ErrorCode, errnoOf, isLaminaError, messageOf } from '../lib/errors.ts';
import type { LayerId } from './records.ts';

/** Something that is not as it should be. */
export interface Problem {
  code: ErrorCode;
  file: string;
  message: string;
}

/** What a crash left that recovery puts right without anybody's help. */
export interface Leftover {
  layer: LayerId;
  kind: 'unsealed' | 'grown' | 'unfinished-merge' | 'merged';
  /** For `grown`: the size of the file. For `merged`: nothing. */
  sizeBytes?: number;
  file: string;
}

export interface Findings {
  problems: Problem[];
  leftovers: Leftover[];
  /** Files and directories beside a layer that are none of ours: left alone, and gone with the layer. */
  foreign: string[];
}

/** Runs `work`; what it throws of ours, or of the file system, becomes a problem of `file`. */
export async function noting(problems: Problem[], file: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isLaminaError(error)) problems.push({ code: error.code, file, message: error.message });
    else if (errnoOf(error))
      problems.push({ code: 'record-corrupt', file, message: `${file} cannot be read: ${messageOf(error)}` });
    else throw error;
  }
}
