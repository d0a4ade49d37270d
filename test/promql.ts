import { parser } from '@prometheus-io/lezer-promql';

/** The metric and the labels that one selector of a query asks for. */
export interface Selector {
  metric: string;
  labels: string[];
}

/** What a query in PromQL selects. @throws where it is none */
export function selectorsOf(query: string): Selector[] {
  const selectors: Selector[] = [];
  parser.parse(query).iterate({
    enter: ({ name, node, from, to }) => {
      if (node.type.isError) throw new Error(`no PromQL at ${from}: ${query}`);
      if (name !== 'VectorSelector') return;
      const metric = node.getChild('Identifier');
      const labels = node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
      const nameOf = (matcher: (typeof labels)[number]) => textOf(query, matcher.getChild('LabelName'));
      if (!metric) throw new Error(`a selector without a metric: ${query.slice(from, to)}`);
      selectors.push({ metric: textOf(query, metric), labels: labels.map(nameOf) });
    },
  });
  return selectors;
}

function textOf(query: string, node: { from: number; to: number } | null): string {
  return node ? query.slice(node.from, node.to) : '';
}
