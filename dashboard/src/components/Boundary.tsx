import { Component, type ReactNode } from "react";

/** Says what went wrong in place of what it concerns. */
export function Fault({ message }: { message: string }) {
  return (
    <div className="rounded-lg border border-bad bg-sunken p-4" role="alert">
      <p className="font-medium text-bad">This can't be shown.</p>
      <p className="mt-1 break-words text-ink">{message}</p>
    </div>
  );
}

interface BoundaryProps {
  data: unknown;
  onError?: () => void;
  children: ReactNode;
}

/** Keeps an exception while drawing inside it, until other data come. */
export class Boundary extends Component<BoundaryProps, { message?: string; data?: unknown }> {
  state: { message?: string; data?: unknown } = {};

  static getDerivedStateFromError(error: unknown) {
    return { message: error instanceof Error ? error.message : String(error) };
  }

  static getDerivedStateFromProps(props: BoundaryProps, state: { data?: unknown }) {
    return props.data === state.data ? null : { data: props.data, message: undefined };
  }

  componentDidCatch() {
    this.props.onError?.();
  }

  render() {
    return this.state.message === undefined ? this.props.children : <Fault message={`Drawing it failed: ${this.state.message}`} />;
  }
}
