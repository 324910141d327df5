%% @doc Stands in for hackney's module of this name and hands every call to the engine.
%%
%% It is never part of `ebin/': {@link hackney_native_drop_in} loads it over the original on request.
%% Each function is a tail call, so that nobody who waits in `recv/1' keeps this code in use, and
%% `start_link/1' still runs in the caller, who becomes the stream's owner.
-module(hackney_h2_stream).

-export([start_link/1, connect/1, connect/2]).
-export([send/2, send/3, send_trailers/2, recv/1, recv/2, consume/2]).
-export([setopts/2, controlling_process/2, close/1]).
-export_type([h2_msg/0]).

%% By this mark hackney_native_drop_in tells a stand-in from the original.
-hackney_native_drop_in(true).

-type h2_msg() :: {response, non_neg_integer(), [{binary(), binary()}]}
                | {data, binary()}
                | {trailers, [{binary(), binary()}]}
                | done.
%% What {@link recv/1} returns.

%% @doc Starts an unconnected stream that is linked to, and owned by, the caller.
-spec start_link(map()) -> {ok, pid()} | {error, term()}.
start_link(Options) -> hackney_native_h2_stream:start_link(Options).

%% @doc Connects within the `connect_timeout' that {@link start_link/1} was given.
-spec connect(pid()) -> ok | {error, term()}.
connect(Stream) -> hackney_native_h2_stream:connect(Stream).

%% @doc Connects within `Timeout'.
-spec connect(pid(), timeout()) -> ok | {error, term()}.
connect(Stream, Timeout) -> hackney_native_h2_stream:connect(Stream, Timeout).

%% @doc Sends DATA and leaves the stream open.
-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Stream, Data) -> hackney_native_h2_stream:send(Stream, Data).

%% @doc Sends DATA; `fin' half-closes the stream.
-spec send(pid(), iodata(), fin | nofin) -> ok | {error, term()}.
send(Stream, Data, Fin) -> hackney_native_h2_stream:send(Stream, Data, Fin).

%% @doc Sends trailers, which half-close the stream.
-spec send_trailers(pid(), list()) -> ok | {error, term()}.
send_trailers(Stream, Trailers) -> hackney_native_h2_stream:send_trailers(Stream, Trailers).

%% @doc Takes the next inbound message of a passive stream.
-spec recv(pid()) -> {ok, h2_msg()} | {error, term()}.
recv(Stream) -> hackney_native_h2_stream:recv(Stream).

%% @doc Takes the next inbound message of a passive stream, waiting at most `Timeout'.
-spec recv(pid(), timeout()) -> {ok, h2_msg()} | {error, term()}.
recv(Stream, Timeout) -> hackney_native_h2_stream:recv(Stream, Timeout).

%% @doc Gives `Bytes' of receive window back to the peer.
-spec consume(pid(), non_neg_integer()) -> ok | {error, term()}.
consume(Stream, Bytes) -> hackney_native_h2_stream:consume(Stream, Bytes).

%% @doc Changes the delivery mode.
-spec setopts(pid(), list()) -> ok | {error, term()}.
setopts(Stream, Options) -> hackney_native_h2_stream:setopts(Stream, Options).

%% @doc Makes `Owner' the stream's owner.
-spec controlling_process(pid(), pid()) -> ok | {error, term()}.
controlling_process(Stream, Owner) -> hackney_native_h2_stream:controlling_process(Stream, Owner).

%% @doc Resets the stream and closes its connection.
-spec close(pid()) -> ok.
close(Stream) -> hackney_native_h2_stream:close(Stream).
