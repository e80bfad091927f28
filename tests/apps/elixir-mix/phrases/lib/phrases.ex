defmodule Phrases do
  def greeting, do: "Hello"
end
