import { execa } from 'execa';
import type { Machine } from './machine.ts';

/** A control plane and two workers. */
const configuration = `
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{ role: control-plane }, { role: worker }, { role: worker }]
`;

/** A cluster whose nodes are containers of this machine. */
export class KindCluster {
  readonly name: string;
  /** A file of its own, so that nobody's kubectl is pointed elsewhere. */
  readonly kubeconfig: string;

  constructor(name: string, kubeconfig: string) {
    this.name = name;
    this.kubeconfig = kubeconfig;
  }

  /** @returns whether it was made: false where it was there */
  async create({ nodeImage }: Machine): Promise<boolean> {
    const { stdout } = await execa('kind', ['get', 'clusters'], { stderr: 'ignore' });
    if (stdout.split('\n').includes(this.name)) {
      await execa('kind', ['export', 'kubeconfig', '--name', this.name, '--kubeconfig', this.kubeconfig]);
      return false;
    }
    const image = nodeImage === undefined ? [] : ['--image', nodeImage];
    const own = ['--name', this.name, '--kubeconfig', this.kubeconfig, '--config', '-', '--wait', '3m'];
    await execa('kind', ['create', 'cluster', ...own, ...image], { input: configuration });
    return true;
  }

  /** Takes away the cluster, and the loop devices of volumes in use, which would outlive its nodes. */
  async destroy(): Promise<void> {
    const loops = (await Promise.all(this.workers.map((node) => this.loopsOf(node)))).flat();
    await execa('kind', ['delete', 'cluster', '--name', this.name, '--kubeconfig', this.kubeconfig]);
    for (const loop of loops) await execa('losetup', ['--detach', loop]);
  }

  /** Brings an image of this machine's container engine to all nodes. */
  async load(image: string): Promise<void> {
    await execa('kind', ['load', 'docker-image', '--name', this.name, image]);
  }

  /** Takes the power from a node, and gives it back when `meanwhile` is done. */
  async powerCut(node: string, meanwhile: () => Promise<unknown> = async () => {}): Promise<void> {
    const loops = await this.loopsOf(node);
    await execa('docker', ['kill', node]);
    try {
      // What a machine loses with its power; a container's devices are those of the machine that it runs on.
      for (const loop of loops) await execa('losetup', ['--detach', loop]);
      await meanwhile();
    } finally {
      await execa('docker', ['start', node]);
    }
  }

  /** Names of the nodes that run pods of users. */
  get workers(): readonly [string, string] {
    return [`${this.name}-worker`, `${this.name}-worker2`];
  }

  /** The address of this machine that its nodes and their pods reach it at. */
  async hostAddress(): Promise<string> {
    const format = '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}';
    const { stdout } = await execa('docker', ['inspect', '--format', format, this.workers[0]]);
    return stdout.trim();
  }

  /** Runs a shell script on a node, as root. @returns what it prints */
  async onNode(node: string, script: string): Promise<string> {
    const { stdout } = await execa('docker', ['exec', '-i', node, 'bash', '-eu', '-s'], { input: script });
    return stdout;
  }

  /** The id of the layer that a volume writes to, as the pool of its node says. */
  async headOf(node: string, volume: string): Promise<string> {
    const record = await this.onNode(node, `cat /var/lib/lamina/disks/${volume}.json`);
    return (JSON.parse(record) as { head: string }).head;
  }

  /**
   * Loop devices on files of a node's pool, and on exports of its storage daemons. Devices are the kernel's: all nodes and
   * the machine see the same ones, under paths that mean something to whoever attached them. So a node's own are found
   * by the numbers of the file and of its file system.
   */
  async loopsOf(node: string): Promise<string[]> {
    const loops = await this.onNode(node, loopsOfNode);
    return loops.split('\n').filter(Boolean);
  }
}

const loopsOfNode = `
own=$(find /var/lib/lamina/layers -name 'data.*' -exec stat --format '%Hd:%Ld %i' {} + 2>/dev/null || true)
exports=$(grep -F ' /run/lamina/' /proc/self/mountinfo | cut -d' ' -f3 || true)
# In raw output the blanks that fill up a column are written as \\x20.
losetup --list --noheadings --raw --output NAME,BACK-MAJ:MIN,BACK-INO | sed 's/\\\\x20//g' | while read -r name device inode; do
  if grep -qFx "$device $inode" <<<"$own" || grep -qFx "$device" <<<"$exports"; then echo "$name"; fi
done
`;
