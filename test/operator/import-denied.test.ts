import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findCondition } from '../../src/kube/conditions.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { machineAddress } from '../machine-address.ts';
import { stories } from './stories.ts';

stories('a source that says no', (scene) => {
  let server: ImageServer;
  beforeAll(async () => {
    server = await ImageServer.start(machineAddress);
  });
  afterAll(() => server.close());

  it('is asked now and then, the object written to once, and it is imported when the source says yes', async (context) => {
    context.skip(machineAddress === undefined, 'this machine has no address but the loopback one');
    const { kube, user } = scene();
    server.answer = (_, response) => Boolean(response.writeHead(403).end());
    const url = server.put('/disk.raw', Buffer.alloc(MiB, 1));
    await user.declareDisk('denied', { nodeName: 'worker-a', source: { type: 'http', http: { url } } });
    const image = async () => kube.diskImages.get(user.at('denied'));
    const ready = async () => findCondition((await image())?.status.conditions ?? [], 'Ready');
    await expect.poll(async () => (await ready())?.reason, { timeout: 20_000 }).toBe('SourceDenied');
    const { resourceVersion } = (await image())?.metadata ?? {};
    const before = server.requests.length;
    await delay(12_000);
    expect(server.requests.length - before).toBeLessThanOrEqual(2);
    expect(server.requests.length).toBeLessThanOrEqual(4);
    expect((await image())?.metadata.resourceVersion).toBe(resourceVersion);
    server.answer = () => false;
    await user.diskWith('denied', 'Ready');
    await user.remove('diskImages', 'denied');
    await user.gone('diskImages', 'denied');
  }, 120_000);
});
