import { useId, type ReactNode } from "react";

interface Option {
  value: string;
  label: string;
}

interface SelectProps {
  label: ReactNode;
  value: string;
  options: Option[];
  onChange: (value: string) => void;
}

export function Select({ label, value, options, onChange }: SelectProps) {
  const id = useId();
  return (
    <div className="flex min-w-0 items-center gap-2">
      <label htmlFor={id} className="shrink-0 text-xs text-muted">{label}</label>
      <select id={id} className="form-select field min-w-0 pr-8" value={value} onChange={(event) => onChange(event.target.value)}>
        {options.map((option) => (
          <option key={option.value} value={option.value}>{option.label}</option>
        ))}
      </select>
    </div>
  );
}

export function optionsOf(values: string[], label: (value: string) => string = (value) => value): Option[] {
  return values.map((value) => ({ value, label: label(value) }));
}
