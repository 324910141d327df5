%% @doc Stands for hackney in drop_in_SUITE: what hackney's h2_open/4 asks of hackney_h2_stream, and no more.
-module(hackney).

-export([h2_open/3, h2_open/4, h2_send/2, h2_send/3, h2_recv/2, h2_setopts/2, h2_close/1]).

h2_open(URL, Headers, Options) ->
    h2_open(post, URL, Headers, Options).

h2_open(Method, URL, Headers, Options) ->
    #{host := Host, port := Port, path := Path} = uri_string:parse(URL),
    Timeout = proplists:get_value(connect_timeout, Options, 8000),
    {ok, Stream} = hackney_h2_stream:start_link(
                     #{method => list_to_binary(string:uppercase(atom_to_list(Method))),
                       host => Host,
                       port => Port,
                       transport => hackney_ssl,
                       path => list_to_binary(Path),
                       headers => Headers,
                       connect_timeout => Timeout,
                       recv_timeout => proplists:get_value(recv_timeout, Options, infinity),
                       connect_options => proplists:get_value(connect_options, Options, []),
                       ssl_options => proplists:get_value(ssl_options, Options, []),
                       flow_control => proplists:get_value(flow_control, Options, auto),
                       active => proplists:get_value(active, Options, false),
                       max_recv_buffer => proplists:get_value(max_recv_buffer, Options, 16#4000000)}),
    case hackney_h2_stream:connect(Stream, Timeout) of
        ok -> {ok, Stream};
        {error, _} = Error -> Error
    end.

h2_send(Stream, Data) -> hackney_h2_stream:send(Stream, Data).
h2_send(Stream, Data, Fin) -> hackney_h2_stream:send(Stream, Data, Fin).
h2_recv(Stream, Timeout) -> hackney_h2_stream:recv(Stream, Timeout).
h2_setopts(Stream, Options) -> hackney_h2_stream:setopts(Stream, Options).
h2_close(Stream) -> hackney_h2_stream:close(Stream).
