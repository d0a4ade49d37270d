import { diskImages } from '../../api/objects.ts';
import type { KubectlConfig } from '../../config/kubectl.ts';
import { ApiClient } from '../../kube/client/client.ts';
import { kubeconfigConnection } from '../../kube/client/kubeconfig.ts';
import { systemClock as clock } from '../../lib/clock.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { exportDisk } from './export.ts';
import { NodeExchange } from './node-exchange.ts';
import { describePools } from './pools.ts';
import { describeTree } from './tree.ts';
import { uploadDisk } from './upload.ts';
import { ClaimExplanation } from './why.ts';

/** `kubectl lamina`: for people, as the user of their kubeconfig. Exit code 0, or 4 where something is waited for, or refused. */
export async function kubectl(options: KubectlConfig & { version: string }): Promise<number> {
  const connection = await kubeconfigConnection(options.kubeconfig, clock);
  const client = new ApiClient({ connection, clock, userAgent: `lamina/${options.version} (kubectl)` });
  const print = (text: string) => process.stdout.write(`${text}\n`);
  const { task, namespace } = options;
  switch (task.kind) {
    case 'pools':
      print(await describePools(client));
      return 0;
    case 'tree':
      print(await describeTree(client, namespace, clock.now()));
      return 0;
    case 'why': {
      const explanation = new ClaimExplanation(client, clock.now());
      await explanation.explain({ namespace: namespace ?? connection.namespace, name: task.claim });
      print(explanation.text);
      return explanation.isSettled ? 0 : 4;
    }
    case 'export':
    case 'upload': {
      const place = { namespace: namespace ?? connection.namespace, name: task.name };
      const images = new ResourceClient(client, diskImages);
      const say = (text: string) => process.stderr.write(`${text}\n`);
      const exchange = new NodeExchange({ client, connection, namespace: place.namespace, ...task });
      if (task.kind === 'export') return exportDisk(exchange, task, { ...place, images }, say);
      return uploadDisk(exchange, images, { file: task.file, ...place }, say);
    }
  }
}
