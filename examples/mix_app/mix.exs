defmodule Chat.MixProject do
  use Mix.Project

  def project do
    [app: :chat, version: "0.1.0", elixir: "~> 1.14", deps: deps()]
  end

  def application do
    []
  end

  # In a project of your own, give the library's address. Mix builds it through rebar3.
  defp deps do
    [{:hackney_native, git: address(), manager: :rebar3}]
  end

  # Where this example takes the library from: $HACKNEY_NATIVE_GIT, or the repository it lies in.
  defp address do
    System.get_env("HACKNEY_NATIVE_GIT") || "file://" <> Path.expand("../..", __DIR__)
  end
end
