import { Tab, TabGroup, TabList } from "@tremor/react";
import { useState, type ReactNode } from "react";

interface TabsProps {
  label: string;
  names: string[];
  children: (index: number) => ReactNode;
}

/** One of several at a time. */
export function Tabs({ label, names, children }: TabsProps) {
  const [chosen, choose] = useState(0);
  const index = Math.min(chosen, names.length - 1);
  return (
    <>
      <TabGroup index={index} onIndexChange={choose}>
        <TabList variant="solid" aria-label={label}>{names.map((name) => <Tab key={name}>{name}</Tab>)}</TabList>
      </TabGroup>
      <div role="tabpanel" aria-label={names[index]} className="mt-3">{children(index)}</div>
    </>
  );
}
