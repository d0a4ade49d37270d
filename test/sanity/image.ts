import { run } from '../../src/lib/exec.ts';

const timeoutMs = 60_000;

/** `lamina` of a container image, as a node's pod runs it: privileged, with the machine's devices and a shared directory. */
export interface ImageCommand {
  command: [string, ...string[]];
  remove(): Promise<void>;
}

/** @param directory whose mounts are seen inside and outside; everything the program writes is in it */
export async function imageCommand(image: string, directory: string): Promise<ImageCommand> {
  // Mounts made in the container propagate only where the directory is a shared mount.
  await run('mount', ['--rbind', directory, directory], { timeoutMs });
  await run('mount', ['--make-rshared', directory], { timeoutMs });
  const name = directory.slice(1).replaceAll('/', '-');
  const volume = `type=bind,source=${directory},target=${directory},bind-propagation=rshared`;
  const limits = ['--privileged', '--read-only', '--network', 'none'];
  return {
    command: ['docker', 'run', '--rm', '--name', name, ...limits, '--mount', volume, '--volume', '/dev:/dev', image],
    remove: async () => {
      await run('docker', ['rm', '--force', name], { timeoutMs });
      await run('umount', ['--recursive', directory], { timeoutMs });
    },
  };
}
