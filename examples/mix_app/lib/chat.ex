defmodule Chat do
  @moduledoc """
  A client for a server that answers line by line, such as `/chat` of this library's own `h2-server`.
  """

  @doc "Says each line and returns everything that the server sent, in order."
  @spec talk(String.t(), Path.t(), [binary]) :: [term]
  def talk(url, ca_file, lines) do
    {:ok, stream} = :hackney_native.h2_open(url, [], ssl_options: [cacertfile: ca_file])
    Enum.each(lines, &(:ok = :hackney_native.h2_send(stream, &1)))
    :ok = :hackney_native.h2_send(stream, "", :fin)
    answers = receive_all(stream)
    :ok = :hackney_native.h2_close(stream)
    answers
  end

  @doc "Says two lines to the server named by `CHAT_URL` and `CHAT_CACERT`, and prints the answers as Erlang terms."
  @spec main :: :ok
  def main do
    "CHAT_URL"
    |> System.fetch_env!()
    |> talk(System.fetch_env!("CHAT_CACERT"), ["first\n", "second\n"])
    |> Enum.each(&:io.format("~0tp.~n", [&1]))
  end

  defp receive_all(stream) do
    case :hackney_native.h2_recv(stream, 10_000) do
      {:ok, :done} -> [:done]
      {:ok, message} -> [message | receive_all(stream)]
    end
  end
end
