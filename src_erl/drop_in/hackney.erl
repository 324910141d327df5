%% @doc The `h2_*' functions under hackney's own name, for a node that has no hackney.
%%
%% Code written for hackney's streams then runs without hackney and its dependencies. It is never part
%% of `ebin/', and {@link hackney_native_drop_in} never loads it where a real hackney can be found.
-module(hackney).

-export([h2_open/2, h2_open/3, h2_open/4]).
-export([h2_send/2, h2_send/3, h2_send_trailers/2, h2_recv/1, h2_recv/2, h2_consume/2]).
-export([h2_setopts/2, h2_close/1]).

%% By this mark hackney_native_drop_in tells a stand-in from the original.
-hackney_native_drop_in(true).

%% @doc Opens a POST stream without headers of the caller's own.
-spec h2_open(binary() | string(), list()) -> {ok, pid()} | {error, term()}.
h2_open(URL, Options) -> hackney_native:h2_open(URL, Options).

%% @doc Opens a POST stream.
-spec h2_open(binary() | string(), list(), list()) -> {ok, pid()} | {error, term()}.
h2_open(URL, Headers, Options) -> hackney_native:h2_open(URL, Headers, Options).

%% @doc Connects and opens a stream that is linked to, and owned by, the caller.
-spec h2_open(atom() | binary() | string(), binary() | string(), list(), list()) ->
          {ok, pid()} | {error, term()}.
h2_open(Method, URL, Headers, Options) -> hackney_native:h2_open(Method, URL, Headers, Options).

%% @doc Sends DATA and leaves the stream open.
-spec h2_send(pid(), iodata()) -> ok | {error, term()}.
h2_send(Stream, Data) -> hackney_native:h2_send(Stream, Data).

%% @doc Sends DATA; `fin' half-closes the stream.
-spec h2_send(pid(), iodata(), fin | nofin) -> ok | {error, term()}.
h2_send(Stream, Data, Fin) -> hackney_native:h2_send(Stream, Data, Fin).

%% @doc Sends trailers, which half-close the stream.
-spec h2_send_trailers(pid(), list()) -> ok | {error, term()}.
h2_send_trailers(Stream, Trailers) -> hackney_native:h2_send_trailers(Stream, Trailers).

%% @doc Takes the next inbound message of a passive stream.
-spec h2_recv(pid()) -> {ok, hackney_h2_stream:h2_msg()} | {error, term()}.
h2_recv(Stream) -> hackney_native:h2_recv(Stream).

%% @doc Takes the next inbound message of a passive stream, waiting at most `Timeout'.
-spec h2_recv(pid(), timeout()) -> {ok, hackney_h2_stream:h2_msg()} | {error, term()}.
h2_recv(Stream, Timeout) -> hackney_native:h2_recv(Stream, Timeout).

%% @doc Gives `Bytes' of receive window back to the peer.
-spec h2_consume(pid(), non_neg_integer()) -> ok | {error, term()}.
h2_consume(Stream, Bytes) -> hackney_native:h2_consume(Stream, Bytes).

%% @doc Changes the delivery mode.
-spec h2_setopts(pid(), list()) -> ok | {error, term()}.
h2_setopts(Stream, Options) -> hackney_native:h2_setopts(Stream, Options).

%% @doc Resets the stream and closes its connection.
-spec h2_close(pid()) -> ok.
h2_close(Stream) -> hackney_native:h2_close(Stream).
