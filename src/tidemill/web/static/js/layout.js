// Lays out a graph in a worker, so that the page stays usable meanwhile: 1,000 nodes take dagre six seconds.

importScripts("../vendor/dagre/dagre.min.js");

/** @type {any} */
const dagre = /** @type {any} */ (self).dagre;

self.onmessage = (event) => {
  /** @type {{nodes: {id: string, width: number}[], edges: [string, string][], height: number}} */
  const { nodes, edges, height } = event.data;
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 10, ranksep: 56, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, { width: node.width, height });
  for (const [from, to] of edges) graph.setEdge(from, to);
  dagre.layout(graph);
  self.postMessage({
    at: Object.fromEntries(nodes.map(({ id }) => [id, [graph.node(id).x, graph.node(id).y]])),
    width: graph.graph().width,
    height: graph.graph().height,
  });
};
