%%% @doc HTTP/2 frames as maps, and back to bytes (RFC 9113 sections 4 and 6).
%%%
%%% This is the test suite's own reading of the RFC, on purpose independent of the engine under
%%% test: a peer built from the engine's codec would agree with its mistakes.
%%%
%%% A frame is a map that always has `type', `flags' (atoms, only those set), `stream' and
%%% `length', plus the fields of its type:
%%%
%%% | type            | fields                                                   |
%%% |-----------------|----------------------------------------------------------|
%%% | `data'          | `data' (padding removed)                                 |
%%% | `headers'       | `block' (padding and priority removed)                   |
%%% | `continuation'  | `block'                                                  |
%%% | `rst_stream'    | `code'                                                   |
%%% | `settings'      | `settings': `[{Name | Integer, Value}]'                  |
%%% | `ping'          | `opaque': 8 bytes                                        |
%%% | `goaway'        | `last', `code', `debug'                                  |
%%% | `window_update' | `increment'                                              |
%%% | others          | `payload'                                                |
-module(h2_frames).

-export([preface/0, decode/1,
         data/3, data/4, headers/3, continuation/3, rst_stream/2, settings/1, settings_ack/0,
         ping/1, ping_ack/1, goaway/3, window_update/2, push_promise/3, raw/4,
         code/1, code_name/1, code_names/0]).

-export_type([frame/0, stream_id/0, code/0, flag/0, setting/0]).

-type stream_id() :: non_neg_integer().
-type code() :: atom() | non_neg_integer().
-type flag() :: end_stream | end_headers | padded | priority | ack.
-type setting() :: {atom() | non_neg_integer(), non_neg_integer()}.
-type frame() :: #{type := atom() | {unknown, byte()}, flags := [flag()],
                   stream := stream_id(), length := non_neg_integer(), atom() => term()}.

%% RFC 9113 section 7: the position is the code.
-define(CODES, [no_error, protocol_error, internal_error, flow_control_error, settings_timeout,
                stream_closed, frame_size_error, refused_stream, cancel, compression_error,
                connect_error, enhance_your_calm, inadequate_security, http_1_1_required]).

%% @doc What a client sends first (RFC 9113 section 3.4).
-spec preface() -> binary().
preface() -> <<"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n">>.

%% ---- decoding --------------------------------------------------------------------------------

%% @doc Takes one frame off the front of the bytes, if a whole one is there.
-spec decode(binary()) -> {frame(), Rest :: binary()} | more.
decode(<<Len:24, Type, Flags, _:1, Stream:31, Payload:Len/binary, Rest/binary>>) ->
    Name = type_name(Type),
    Head = #{type => Name, flags => flag_names(Name, Flags), stream => Stream, length => Len},
    {maps:merge(Head, fields(Name, Head, Payload)), Rest};
decode(_Part) ->
    more.

fields(data, Head, Payload) ->
    #{data => unpad(Head, Payload)};
fields(headers, #{flags := Flags} = Head, Payload) ->
    Block = unpad(Head, Payload),
    case lists:member(priority, Flags) of
        true -> <<_Dependency:32, _Weight, Rest/binary>> = Block, #{block => Rest};
        false -> #{block => Block}
    end;
fields(continuation, _Head, Payload) ->
    #{block => Payload};
fields(rst_stream, _Head, <<Code:32>>) ->
    #{code => code_name(Code)};
fields(settings, _Head, Payload) ->
    #{settings => [{setting_name(Id), Value} || <<Id:16, Value:32>> <= Payload]};
fields(ping, _Head, <<Opaque:8/binary>>) ->
    #{opaque => Opaque};
fields(goaway, _Head, <<_:1, Last:31, Code:32, Debug/binary>>) ->
    #{last => Last, code => code_name(Code), debug => Debug};
fields(window_update, _Head, <<_:1, Increment:31>>) ->
    #{increment => Increment};
fields(_Other, _Head, Payload) ->
    #{payload => Payload}.

unpad(#{flags := Flags}, Payload) ->
    case lists:member(padded, Flags) of
        true ->
            <<Pad, Rest/binary>> = Payload,
            binary:part(Rest, 0, byte_size(Rest) - Pad);
        false ->
            Payload
    end.

%% ---- encoding --------------------------------------------------------------------------------

%% @doc A DATA frame; `fin' sets END_STREAM.
-spec data(stream_id(), iodata(), fin | nofin) -> iodata().
data(Stream, Data, Fin) ->
    raw(0, fin_flag(Fin), Stream, Data).

%% @doc A DATA frame with `Pad' bytes of padding: they count against the windows but are no data.
-spec data(stream_id(), iodata(), fin | nofin, byte()) -> iodata().
data(Stream, Data, Fin, Pad) ->
    raw(0, fin_flag(Fin) bor 16#8, Stream, [Pad, Data, binary:copy(<<0>>, Pad)]).

%% @doc A HEADERS frame that holds the whole header block.
-spec headers(stream_id(), iodata(), fin | nofin) -> iodata().
headers(Stream, Block, Fin) ->
    raw(1, fin_flag(Fin) bor 16#4, Stream, Block).

%% @doc A CONTINUATION frame; `last' sets END_HEADERS.
-spec continuation(stream_id(), iodata(), last | more) -> iodata().
continuation(Stream, Block, last) -> raw(9, 16#4, Stream, Block);
continuation(Stream, Block, more) -> raw(9, 0, Stream, Block).

%% @doc RST_STREAM.
-spec rst_stream(stream_id(), code()) -> iodata().
rst_stream(Stream, Code) -> raw(3, 0, Stream, <<(code(Code)):32>>).

%% @doc SETTINGS.
-spec settings([setting()]) -> iodata().
settings(Settings) ->
    raw(4, 0, 0, << <<(setting_id(Name)):16, Value:32>> || {Name, Value} <- Settings >>).

%% @doc SETTINGS with ACK.
-spec settings_ack() -> iodata().
settings_ack() -> raw(4, 1, 0, <<>>).

%% @doc PING with eight opaque bytes.
-spec ping(binary()) -> iodata().
ping(<<_:8/binary>> = Opaque) -> raw(6, 0, 0, Opaque).

%% @doc PING with ACK.
-spec ping_ack(binary()) -> iodata().
ping_ack(<<_:8/binary>> = Opaque) -> raw(6, 1, 0, Opaque).

%% @doc GOAWAY.
-spec goaway(stream_id(), code(), binary()) -> iodata().
goaway(Last, Code, Debug) -> raw(7, 0, 0, <<0:1, Last:31, (code(Code)):32, Debug/binary>>).

%% @doc WINDOW_UPDATE; stream 0 is the connection.
-spec window_update(stream_id(), non_neg_integer()) -> iodata().
window_update(Stream, Increment) -> raw(8, 0, Stream, <<0:1, Increment:31>>).

%% @doc PUSH_PROMISE on `Stream' that promises the stream `Promised'.
-spec push_promise(stream_id(), stream_id(), iodata()) -> iodata().
push_promise(Stream, Promised, Block) ->
    raw(5, 16#4, Stream, [<<0:1, Promised:31>>, Block]).

%% @doc Any frame at all, right or wrong.
-spec raw(byte(), byte(), stream_id(), iodata()) -> iodata().
raw(Type, Flags, Stream, Payload) ->
    [<<(iolist_size(Payload)):24, Type, Flags, 0:1, Stream:31>>, Payload].

%% ---- names -----------------------------------------------------------------------------------

%% @doc The number of an error code.
-spec code(code()) -> non_neg_integer().
code(Code) when is_integer(Code) -> Code;
code(Name) -> length(lists:takewhile(fun(N) -> N =/= Name end, ?CODES)).

%% @doc The name of an error code, or the number itself where the RFC gives none.
-spec code_name(non_neg_integer()) -> code().
code_name(Code) when Code < length(?CODES) -> lists:nth(Code + 1, ?CODES);
code_name(Code) -> Code.

%% @doc Every error code that RFC 9113 names, in the order of their numbers.
-spec code_names() -> [atom()].
code_names() -> ?CODES.

fin_flag(fin) -> 1;
fin_flag(nofin) -> 0.

type_name(0) -> data;
type_name(1) -> headers;
type_name(2) -> priority;
type_name(3) -> rst_stream;
type_name(4) -> settings;
type_name(5) -> push_promise;
type_name(6) -> ping;
type_name(7) -> goaway;
type_name(8) -> window_update;
type_name(9) -> continuation;
type_name(Type) -> {unknown, Type}.

flag_names(Type, Bits) ->
    [Name || {Bit, Name} <- flags_of(Type), Bits band Bit =/= 0].

flags_of(data) -> [{16#1, end_stream}, {16#8, padded}];
flags_of(headers) -> [{16#1, end_stream}, {16#4, end_headers}, {16#8, padded}, {16#20, priority}];
flags_of(continuation) -> [{16#4, end_headers}];
flags_of(Type) when Type =:= settings; Type =:= ping -> [{16#1, ack}];
flags_of(_Type) -> [].

setting_name(1) -> header_table_size;
setting_name(2) -> enable_push;
setting_name(3) -> max_concurrent_streams;
setting_name(4) -> initial_window_size;
setting_name(5) -> max_frame_size;
setting_name(6) -> max_header_list_size;
setting_name(8) -> enable_connect_protocol;
setting_name(Id) -> Id.

setting_id(header_table_size) -> 1;
setting_id(enable_push) -> 2;
setting_id(max_concurrent_streams) -> 3;
setting_id(initial_window_size) -> 4;
setting_id(max_frame_size) -> 5;
setting_id(max_header_list_size) -> 6;
setting_id(enable_connect_protocol) -> 8;
setting_id(Id) when is_integer(Id) -> Id.
