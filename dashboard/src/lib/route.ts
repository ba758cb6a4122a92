/** Hash routes: #/view/id?name=value */
import { useCallback, useSyncExternalStore } from "react";

export interface Route {
  view: string;
  id?: number;
  params: URLSearchParams;
}

function subscribe(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

function parsed(hash: string): Route {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [view, id] = path.split("/");
  return { view: view || "overview", id: id && /^\d+$/.test(id) ? Number(id) : undefined, params: new URLSearchParams(query) };
}

export function useRoute(): Route {
  return parsed(useSyncExternalStore(subscribe, () => location.hash));
}

export function planetLink(id: number, params?: URLSearchParams): string {
  const query = params?.toString();
  return `#/planets/${id}${query ? `?${query}` : ""}`;
}

/** One parameter of the route; empty removes it. Changing it makes no step in the browser's history. */
export function useParam(name: string, otherwise: string): [string, (value: string) => void] {
  const { params } = useRoute();
  const change = useCallback(
    (value: string) => {
      const [path, query] = location.hash.split("?");
      const next = new URLSearchParams(query);
      if (value) next.set(name, value);
      else next.delete(name);
      history.replaceState(null, "", `${path || "#/overview"}${next.size ? `?${next}` : ""}`);
      dispatchEvent(new HashChangeEvent("hashchange"));
    },
    [name],
  );
  return [params.get(name) ?? otherwise, change];
}
